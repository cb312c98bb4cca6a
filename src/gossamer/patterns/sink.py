"""The first few tokens of a text, which everybody later sees."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import check_integer
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import ENDLESS, Band, Cells, Kept, Pieces, outside
from gossamer.patterns.reach import Reach
from gossamer.patterns.sums import Steps, band_pairs, band_row_sums, is_among_first, offsets

__all__ = ["Sink"]


@dataclass(frozen=True)
class Sink(Pattern, kind="sink"):
    """Query i sees key j when j < n and j <= i: beside a causal window, text without end in bounded memory.

    Source: StreamingLLM (Xiao et al. 2023, arXiv 2309.17453), section 3, attention sinks.
    """

    n: int

    def __post_init__(self) -> None:
        check_integer("Sink", "n", self.n, 1)

    @property
    def causal(self) -> bool:
        return True

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        return (offsets(query_positions, key_positions) <= 0) & is_among_first(key_positions, self.n)[..., None, :]

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return queries == 0 or keys == 0 or (keys <= self.n and keys - 1 <= query_start)

    def __str__(self) -> str:
        return f"sink {self.n}"

    def pieces(self) -> Pieces:
        return Pieces((Band(low=None, high=0, stride=ENDLESS, first=0, stop=self.n),))

    def pieces_with(self, window: Band) -> Pieces:
        return Pieces(outside(window, self.pieces().bands))

    def keeps(self) -> Kept:
        return Kept(cells=(Cells(ENDLESS, 0, self.n),))

    def sees(self, position: int) -> Tensor:
        return torch.arange(min(self.n, position + 1))

    def near(self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None) -> Tensor:
        return is_among_first(keys, self.n) & (keys <= at.max())

    def reach(self) -> Reach:
        return Reach(first=self.n)

    def _merged_with(self, other: Pattern) -> Pattern | None:
        return Sink(max(self.n, other.n)) if isinstance(other, Sink) else None

    def _count(self, grid: Grid) -> int:
        return grid.copies * band_pairs(self._first(grid), grid.span, 0, 1)

    def _count_beside(self, window: Steps, grid: Grid) -> int:
        first = self._first(grid)
        common = band_pairs(first, min(window.before, grid.span // window.size + 1), 0, window.size)
        return self._count(grid) - grid.copies * common

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        return band_row_sums(grid, values * is_among_first(grid.key_positions, self.n), grid.span, 0, 1)

    def _row_sums_beside(self, window: Steps, grid: Grid, values: Tensor) -> Tensor:
        first = values * is_among_first(grid.key_positions, self.n)
        return self._row_sums(grid, values) - band_row_sums(grid, first, window.before, 0, window.size)

    def _first(self, grid: Grid) -> Grid:
        """The grid without the keys that nobody sees."""
        return Grid(grid.queries, min(grid.keys, self.n), grid.query_start)
