"""Attention over several sets of keys put together, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.kernels.precision import wide

__all__ = ["merge"]

Output = Float[Tensor, "batch heads queries size"]
Lse = Float[Tensor, "batch heads queries"]


def merge(outputs: Sequence[Output], lses: Sequence[Lse]) -> tuple[Output, Lse]:
    """The attention of queries over the union of disjoint sets of keys, from what `attend` gave for each set.

    Args:
        outputs: for each set of keys the output, [batch, heads, queries, size].
        lses: for each set the log-sum-exp of every row, [batch, heads, queries]; -inf where a row saw nothing of it.

    Returns output and log-sum-exp over all keys, as `attend(..., return_lse=True)` gives them; the latter in float32 or
    wider. Differentiable in both; a row that saw nothing anywhere gives zeros, log-sum-exp -inf and zero gradients.

    Raises InputError for no or unequally many parts, and for shapes, dtypes or devices that do not fit each other.
    Source: Dao et al. 2022, FlashAttention, section 3.1; Liu et al. 2023, ring attention.
    """
    _check(outputs, lses)
    kind = wide(outputs[0])
    parts = torch.stack([lse.to(kind) for lse in lses])
    empty = (parts == float("-inf")).all(0)
    total = parts.masked_fill(empty, 0).logsumexp(0)
    weights = (parts - total).exp()
    # What a row that saw nothing holds, does not count, whatever it is.
    unseen = (parts == float("-inf"))[..., None]
    values = torch.stack([out.to(kind) for out in outputs]).masked_fill(unseen, 0)
    out = (weights[..., None] * values).sum(0).to(outputs[0].dtype)
    return out, total.masked_fill(empty, float("-inf"))


def _check(outputs: Sequence[Tensor], lses: Sequence[Tensor]) -> None:
    for name, several in (("outputs", outputs), ("lses", lses)):
        if not isinstance(several, list | tuple) or not all(isinstance(x, Tensor) for x in several):
            raise InputError(f"{name} is {quote(several)}; it must be a list of tensors, one for each set of keys")
    if not outputs or len(outputs) != len(lses):
        raise InputError(
            f"there are {len(outputs)} outputs and {len(lses)} lses; give one of each for every set of keys"
        )
    first = outputs[0]
    if first.ndim != 4 or not first.dtype.is_floating_point:
        raise InputError(
            f"outputs[0] is {first.dtype} of shape {list(first.shape)}; it must be [batch, heads, queries, size]"
        )
    for i, (out, lse) in enumerate(zip(outputs, lses, strict=True)):
        if (out.shape, out.dtype, out.device) != (first.shape, first.dtype, first.device):
            raise InputError(
                f"outputs[{i}] is {out.dtype} of shape {list(out.shape)} on {out.device}, outputs[0] {first.dtype} of "
                f"{list(first.shape)} on {first.device}; they must be equal"
            )
        if lse.shape != first.shape[:3] or not lse.dtype.is_floating_point or lse.device != first.device:
            raise InputError(
                f"lses[{i}] is {lse.dtype} of shape {list(lse.shape)} on {lse.device}; it must be floating-point of "
                f"shape {list(first.shape[:3])} on {first.device}"
            )
