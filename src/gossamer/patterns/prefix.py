"""A beginning that everybody sees, and everybody earlier."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import check_integer
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import ENDLESS, Band, Pieces
from gossamer.patterns.sums import band_pairs, band_row_sums, is_among_first, offsets

__all__ = ["Prefix"]


@dataclass(frozen=True)
class Prefix(Pattern, kind="prefix"):
    """Query i sees key j when j <= i or j < n: the first n tokens of a text see one another, all later ones look back.

    Source: prefix language models, Raffel et al. 2020 (arXiv 1910.10683), section 3.2.1, causal with prefix.
    """

    n: int
    short = "prefix(128)"

    def __post_init__(self) -> None:
        check_integer("Prefix", "n", self.n, 1)

    @property
    def causal(self) -> bool:
        return False

    @property
    def prefix(self) -> int:
        return self.n

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        return (offsets(query_positions, key_positions) <= 0) | is_among_first(key_positions, self.n)[..., None, :]

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return queries == 0 or keys == 0 or keys <= self.n or keys - 1 <= query_start

    def __str__(self) -> str:
        return f"prefix {self.n}"

    def pieces(self) -> Pieces:
        """Everybody earlier, and what of the prefix comes later."""
        later = Band(low=1, high=None, stride=ENDLESS, first=0, stop=self.n)
        return Pieces((Band(low=None, high=0), later))

    def sees(self, position: int) -> Tensor:
        return torch.arange(position + 1)

    def near(self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None) -> Tensor:
        return (keys <= at.max()) | is_among_first(keys, self.n)

    @classmethod
    def from_numbers(cls, n: int) -> Pattern:  # type: ignore[override]
        return cls(n)

    def _merged_with(self, other: Pattern) -> Pattern | None:
        if isinstance(other, Prefix):
            return Prefix(max(self.n, other.n))
        return self if other.causal else None

    def _count(self, grid: Grid) -> int:
        first = Grid(grid.queries, min(grid.keys, self.n), grid.query_start)
        later = first.queries * first.keys - band_pairs(first, grid.span, 0, 1)
        return grid.copies * (band_pairs(grid, grid.span, 0, 1) + later)

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        first = values * is_among_first(grid.key_positions, self.n)
        later = first.sum(-1, keepdim=True) - band_row_sums(grid, first, grid.span, 0, 1)
        return band_row_sums(grid, values, grid.span, 0, 1) + later
