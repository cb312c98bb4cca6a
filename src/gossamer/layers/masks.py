"""A weight under a mask, of which each number stands for a block of it: how numbers spread, and are summed up."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Block", "spread", "summed"]

Block = tuple[int, int]
"""Rows and columns of a block."""


def spread(
    units: Float[Tensor, "down beside"], block: Block, shape: tuple[int, int]
) -> Float[Tensor, "#outputs #inputs"]:
    """Each number over its block of a weight of this shape; along a dimension that one block fills it stays one."""
    for dimension, (size, whole) in enumerate(zip(block, shape, strict=True)):
        if units.shape[dimension] > 1 and size > 1:
            units = units.repeat_interleave(size, dim=dimension).narrow(dimension, 0, whole)
    return units


def summed(values: Float[Tensor, "outputs inputs"], block: Block) -> Float[Tensor, "down beside"]:
    """The sum over each block; those at the far edges may be smaller."""
    if block == (1, 1):
        return values
    (rows, columns), (high, wide) = values.shape, block
    filled = F.pad(values, (0, -columns % wide, 0, -rows % high))
    return filled.unflatten(1, (-1, wide)).sum(2).unflatten(0, (-1, high)).sum(1)
