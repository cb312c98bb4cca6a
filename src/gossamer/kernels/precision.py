"""The dtypes that scores are computed in."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["bias_in", "sum_of_biases", "wide"]


def wide(x: Tensor) -> torch.dtype:
    """The dtype of scores, sums and log-sum-exp: float32, and float64 for float64."""
    return x.dtype if x.dtype.itemsize >= 4 else torch.float32


def bias_in(dtype: torch.dtype, bias: Tensor) -> Tensor:
    """A bias in the dtype of the scores: what is finite stays finite, half of what that holds, so that sums do too.

    Only minus infinity says that a pair is not seen.
    """
    if torch.finfo(bias.dtype).max <= torch.finfo(dtype).max:
        return bias.to(dtype)
    most = torch.finfo(dtype).max / 2
    return torch.where(bias.isinf(), bias, bias.clamp(-most, most)).to(dtype)


def sum_of_biases(bias: Tensor, other: Tensor) -> Tensor:
    """What is finite in both stays finite."""
    total = bias + other
    hidden = bias.isneginf() | other.isneginf()
    return total.clamp(min=torch.finfo(total.dtype).min).masked_fill(hidden, float("-inf"))
