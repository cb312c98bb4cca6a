"""Everybody sees everybody, or everybody earlier."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import check_boolean
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import Band, Pieces
from gossamer.patterns.sums import band_pairs, band_row_sums, offsets

__all__ = ["Full"]


@dataclass(frozen=True)
class Full(Pattern, kind="full"):
    """Every query sees every key; with `causal`, key j only when j <= i.

    Source: Vaswani et al. 2017, sections 3.2.1 and 3.2.3.
    """

    causal: bool = False
    short = "full"

    def __post_init__(self) -> None:
        check_boolean("Full", "causal", self.causal)

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        distance = offsets(query_positions, key_positions)
        return distance <= 0 if self.causal else torch.ones_like(distance, dtype=torch.bool)

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return not self.causal or queries == 0 or keys == 0 or keys - 1 <= query_start

    def __str__(self) -> str:
        return "causal full" if self.causal else "full"

    @property
    def period(self) -> int:
        return 1

    def pieces(self) -> Pieces:
        return Pieces((Band(low=None, high=0 if self.causal else None),))

    def sees(self, position: int) -> Tensor:
        return torch.arange(position + 1)

    def near(self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None) -> Tensor:
        return keys <= at.max() if self.causal else torch.ones_like(keys, dtype=torch.bool)

    @classmethod
    def from_numbers(cls) -> Pattern:  # type: ignore[override]
        return cls(causal=True)

    def _merged_with(self, other: Pattern) -> Pattern | None:
        return self if other.causal or not self.causal else None

    def _count(self, grid: Grid) -> int:
        before = after = grid.span
        return grid.copies * band_pairs(grid, before, 0 if self.causal else after, 1)

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        before = after = grid.span
        return band_row_sums(grid, values, before, 0 if self.causal else after, 1)
