"""Sums over bands of a mask, without the mask."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.grid import Grid

__all__ = ["Steps", "band_pairs", "band_row_sums", "is_among_first", "least_common_multiple", "offsets"]


@dataclass(frozen=True)
class Steps:
    """The places 0, size, 2 * size .. before * size back."""

    before: int
    size: int

    def common(self, other: "Steps") -> "Steps":
        """The places that both have."""
        size = math.lcm(self.size, other.size)
        return Steps(min(self.before * self.size, other.before * other.size) // size, size)


def least_common_multiple(a: int, b: int) -> int:
    """As `math.lcm`, which torch.compile cannot look into."""
    divisor, rest = a, b
    while rest:
        divisor, rest = rest, divisor % rest
    return a // divisor * b


def is_among_first(positions: Tensor, n: int) -> Tensor:
    """Which positions are 0 to n - 1."""
    return (positions >= 0) & (positions < n)


def offsets(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """key position - query position for every pair, [..., queries, keys]."""
    return key_positions[..., None, :] - query_positions[..., :, None]


def band_pairs(grid: Grid, before: int, after: int, dilation: int) -> int:
    """Number of pairs with j - i = dilation * m, -before <= m <= after, in closed form.

    The number of pairs with j - i = t is a trapezoid in t: with r(x) = max(0, x), s = query_start and the numbers
    of queries q and of keys k, it is r(t + s + q) - r(t + s) - r(t + s + q - k) + r(t + s - k).
    """
    start, queries, keys = grid.query_start, grid.queries, grid.keys
    rises = _ramp_sum(start + queries, before, after, dilation) + _ramp_sum(start - keys, before, after, dilation)
    falls = _ramp_sum(start, before, after, dilation) + _ramp_sum(start + queries - keys, before, after, dilation)
    return rises - falls


def _ramp_sum(offset: int, before: int, after: int, dilation: int) -> int:
    """Sum of max(0, dilation * m + offset) for -before <= m <= after."""
    first = max(-before, -offset // dilation + 1)
    count = max(0, after - first + 1)
    return count * offset + dilation * count * (first + after) // 2


def band_row_sums(
    grid: Grid, values: Tensor, before: int, after: int, dilation: int, least: Tensor | None = None
) -> Tensor:
    """Sum of `values` [..., keys] over the keys each query sees in a band: [..., queries], in O(keys + queries).

    With `least`, [queries], a query sees no key before that position, which is at most its own. A dilated band is a
    plain band in every residue class, so the running sums are taken along the classes.
    """
    extent = max(1, grid.keys, grid.query_start + grid.queries, grid.keys - grid.query_start)
    dilation, before, after = min(dilation, extent), min(before, extent), min(after, extent)
    steps = -(-grid.keys // dilation)
    padded = torch.nn.functional.pad(values, (dilation, steps * dilation - grid.keys))
    running = padded.reshape(*values.shape[:-1], steps + 1, dilation).cumsum(-2).flatten(-2)
    step, residue = grid.query_positions // dilation, grid.query_positions % dilation
    upper = (step + after + 1).clamp(0, steps) * dilation + residue
    lowest = step - before
    if least is not None:
        lowest = torch.maximum(lowest, -((residue - least) // dilation))
    lower = lowest.clamp(0, steps) * dilation + residue
    return running.index_select(-1, upper) - running.index_select(-1, lower)
