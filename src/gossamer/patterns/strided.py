"""Everybody sees the last few tokens, and every so many tokens before them."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import check_choice, check_integer
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import Band, Kept, Pieces, outside
from gossamer.patterns.sums import Steps, band_pairs, band_row_sums, offsets
from gossamer.patterns.window import Window

__all__ = ["Strided"]

PARTS = ("both", "local", "column")


@dataclass(frozen=True)
class Strided(Pattern, kind="strided"):
    """Causal; local: query i sees key j when 0 <= i - j <= stride; column: when (i - j) mod stride = 0.

    `part` is "both", "local" or "column", for heads that share the work.
    Source: Sparse Transformer (Child et al. 2019, arXiv 1904.10509), section 4.3, strided attention.
    """

    stride: int
    part: str = "both"
    short = "strided(128)"

    def __post_init__(self) -> None:
        check_integer("Strided", "stride", self.stride, 1)
        check_choice("Strided", "part", self.part, PARTS)

    @property
    def causal(self) -> bool:
        return True

    @property
    def local(self) -> bool:
        """Whether the last tokens are seen."""
        return self.part != "column"

    @property
    def column(self) -> bool:
        """Whether every stride-th token before is seen."""
        return self.part != "local"

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        distance = offsets(query_positions, key_positions)
        near = distance >= -self.stride
        column = (query_positions % self.stride)[..., :, None] == (key_positions % self.stride)[..., None, :]
        seen = near | column if self.part == "both" else near if self.local else column
        return seen & (distance <= 0)

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        if queries == 0 or keys == 0:
            return True
        nearest, farthest = query_start - keys + 1, query_start + queries - 1
        first = max(nearest, self.stride + 1) if self.local else nearest
        column = self.column and (self.stride == 1 or (first == farthest and first % self.stride == 0))
        return nearest >= 0 and (first > farthest or column)

    def contains(self, other: "Strided | Window") -> bool:
        """Whether the other pattern lets nobody see more than this one does, at any length."""
        if isinstance(other, Window):
            return other.after == 0 and self._reaches(other.before, other.dilation)
        local = not other.local or self._reaches(other.stride, 1)
        return local and (not other.column or (self.column and other.stride % self.stride == 0))

    def _reaches(self, before: int, dilation: int) -> bool:
        """Whether every query sees the keys 0, 1 .. before times the dilation back."""
        first = self.stride // dilation + 1 if self.local else 0
        if first > before:
            return True
        column = dilation % self.stride == 0 or (first == before and first * dilation % self.stride == 0)
        return self.column and column

    def __str__(self) -> str:
        return f"strided {self.stride}" + ("" if self.part == "both" else f" ({self.part})")

    @classmethod
    def from_numbers(cls, stride: int) -> Pattern:  # type: ignore[override]
        return cls(stride)

    def _merged_with(self, other: Pattern) -> Pattern | None:
        if isinstance(other, Window):
            if self.contains(other):
                return self
            within = self.part == "local" and other.dilation == 1 and other.before >= self.stride
            return other if within else None
        if not isinstance(other, Strided):
            return None
        if self.stride == other.stride:
            return self if self.part == other.part else Strided(self.stride)
        return self if self.contains(other) else None

    @property
    def period(self) -> int:
        return 1

    def pieces(self) -> Pieces:
        """Local and column share the token itself and the one a stride before, which the local band gives."""
        return Pieces((self._local_band,) * self.local + (self._column_band,) * self.column)

    def pieces_with(self, window: Band) -> Pieces:
        bands = self.pieces().bands
        if window.dilation == 1 and self.local:
            # Two bands that touch are one.
            assert window.low is not None
            window, bands = replace(window, low=min(window.low, -self.stride)), bands[1:]
        return Pieces(outside(window, bands))

    @property
    def _local_band(self) -> Band:
        return Band(low=-self.stride, high=0)

    @property
    def _column_band(self) -> Band:
        return Band(low=None, high=-2 if self.local else 0, dilation=self.stride)

    def keeps(self) -> Kept:
        return Kept(recent=None if self.column else self.stride + 1)

    def sees(self, position: int) -> Tensor:
        near = max(0, position - self.stride) if self.local else position + 1
        stop = near if self.column else 0
        column = torch.arange(min(position % self.stride, stop), stop, self.stride)
        return torch.cat([column, torch.arange(near, position + 1)])

    def walks(self) -> tuple[Pattern, ...]:
        return (Window(self.stride, 0),) * self.local + (Strided(self.stride, "column"),) * self.column

    @property
    def step(self) -> int:
        return self.stride

    def near(
        self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None
    ) -> Tensor | None:
        if self.part != "column":  # its parts are asked, see `walks`
            return None
        return (keys <= at.max()) & torch.isin(keys % self.stride, at % self.stride)

    def _count(self, grid: Grid) -> int:
        return grid.copies * sum(
            sign * band_pairs(grid, steps.before, 0, steps.size) for sign, steps in self._steps(grid)
        )

    def _count_beside(self, window: Steps, grid: Grid) -> int:
        """Pairs that this pattern has and the window has not."""
        pairs = 0
        for sign, steps in self._steps(grid):
            common = steps.common(window)
            pairs += sign * band_pairs(grid, steps.before, 0, steps.size)
            pairs -= sign * band_pairs(grid, common.before, 0, common.size)
        return grid.copies * pairs

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        return self._row_sums_beside(None, grid, values)

    def _row_sums_beside(self, window: Steps | None, grid: Grid, values: Tensor) -> Tensor:
        """Sums over the keys that this pattern sees and the window does not."""
        sums = values.new_zeros((*values.shape[:-1], grid.queries))
        for sign, steps in self._steps(grid):
            sums += sign * band_row_sums(grid, values, steps.before, 0, steps.size)
            if window is not None:
                common = steps.common(window)
                sums -= sign * band_row_sums(grid, values, common.before, 0, common.size)
        return sums

    def _steps(self, grid: Grid) -> list[tuple[int, Steps]]:
        """The steps back whose sum the pattern is: +1 counts them, -1 takes back what was counted twice."""
        everything = grid.span
        local, column = Steps(self.stride, 1), Steps(everything, self.stride)
        if self.part == "both":
            return [(1, local), (1, column), (-1, local.common(column))]
        return [(1, local if self.local else column)]
