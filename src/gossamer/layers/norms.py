"""Norms of states: by mean and deviation, or by their root mean square."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["RMSNorm", "build_norm"]


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * (offset + weight)`, computed in float32 at least.

    Gemma's offset is 1; fresh weights multiply by 1. Source: Zhang and Sennrich 2019 (arXiv 1910.07467), section 4.
    """

    def __init__(self, size: int, *, eps: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), 1.0 - offset))
        self.eps = eps
        self.offset = offset

    def forward(self, x: Float[Tensor, "*rest size"]) -> Float[Tensor, "*rest size"]:
        weight = self.weight + self.offset if self.offset else self.weight
        # Autocast leaves this operation alone, and torch wants one dtype: the wider, as a layer norm takes there.
        return F.rms_norm(x.to(torch.promote_types(x.dtype, weight.dtype)), self.weight.shape, weight, self.eps)


def build_norm(size: int, *, kind: Literal["layer", "rms"], eps: float, bias: bool, offset: float) -> nn.Module:
    """The module of a norm with fresh weights, which change nothing."""
    return RMSNorm(size, eps=eps, offset=offset) if kind == "rms" else nn.LayerNorm(size, eps=eps, bias=bias)
