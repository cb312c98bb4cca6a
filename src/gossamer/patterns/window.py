"""Everybody sees its neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import check_integer
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import Band, Kept, Pieces
from gossamer.patterns.reach import Reach
from gossamer.patterns.sums import band_pairs, band_row_sums, offsets

__all__ = ["Window"]


@dataclass(frozen=True)
class Window(Pattern, kind="window"):
    """Query i sees key j when j - i = dilation * m with -before <= m <= after: itself and its neighbours.

    `before` and `after` count steps of `dilation`, so the window reaches `dilation * before` tokens back and
    `dilation * after` ahead; `after=0` is causal.
    Source: Longformer (Beltagy et al. 2020, arXiv 2004.05150), section 3.1, sliding and dilated windows; the two
    sides of its window of w are w / 2 each.
    """

    before: int
    after: int
    dilation: int = 1
    short = "window(256) or window(256, dilation)"

    def __post_init__(self) -> None:
        check_integer("Window", "before", self.before, 0)
        check_integer("Window", "after", self.after, 0)
        check_integer("Window", "dilation", self.dilation, 1)

    @classmethod
    def from_attention_window(cls, attention_window: int) -> "Window":
        """The window of a Longformer checkpoint: half of `attention_window` (even) to either side."""
        check_integer("Window", "attention_window", attention_window, 2)
        if attention_window % 2:
            raise InputError(
                f"Window: attention_window is {attention_window}; it must be even, half of it to either side:"
                f" take {attention_window - 1} or {attention_window + 1}"
            )
        return cls(attention_window // 2, attention_window // 2)

    @property
    def causal(self) -> bool:
        return self.after == 0

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        distance = offsets(query_positions, key_positions)
        near = (distance >= -self.before * self.dilation) & (distance <= self.after * self.dilation)
        return near if self.dilation == 1 else near & (distance % self.dilation == 0)

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        if queries == 0 or keys == 0:
            return True
        nearest, farthest = 1 - query_start - queries, keys - 1 - query_start
        in_reach = nearest >= -self.before * self.dilation and farthest <= self.after * self.dilation
        return in_reach and (self.dilation == 1 or (nearest == farthest and nearest % self.dilation == 0))

    def contains(self, other: "Window") -> bool:
        """Whether the other window lets nobody see more than this one does, at any length."""
        step = other.dilation if other.before or other.after else 0
        reaches = (
            self.before * self.dilation >= other.before * step and self.after * self.dilation >= other.after * step
        )
        return reaches and step % self.dilation == 0

    def __str__(self) -> str:
        skips = f", every {_ordinal(self.dilation)}" if self.dilation > 1 else ""
        return f"window {self.before}+{self.after}{skips}"

    @property
    def period(self) -> int:
        return 1

    @property
    def band(self) -> Band:
        return Band(low=-self.before, high=self.after, dilation=self.dilation)

    def pieces(self) -> Pieces:
        return Pieces((self.band,))

    def keeps(self) -> Kept:
        return Kept(self.before * self.dilation + 1)

    def sees(self, position: int) -> Tensor:
        steps = min(self.before, position // self.dilation)
        return torch.arange(position - steps * self.dilation, position + 1, self.dilation)

    @property
    def step(self) -> int:
        return self.dilation

    def near(self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None) -> Tensor:
        step = self.dilation
        near = (keys >= at.min() - self.before * step) & (keys <= at.max() + self.after * step)
        return near if step == 1 else near & torch.isin(keys % step, at % step)

    def reach(self) -> Reach:
        return Reach(before=self.before * self.dilation, after=self.after * self.dilation)

    @classmethod
    def from_numbers(cls, before: int, dilation: int = 1) -> Pattern:  # type: ignore[override]
        return cls(before, 0, dilation)

    def _merged_with(self, other: Pattern) -> Pattern | None:
        if not isinstance(other, Window):
            return None
        if self.dilation == other.dilation:
            return Window(max(self.before, other.before), max(self.after, other.after), self.dilation)
        return self if self.contains(other) else None

    def _count(self, grid: Grid) -> int:
        return grid.copies * band_pairs(grid, self.before, self.after, self.dilation)

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        return band_row_sums(grid, values, self.before, self.after, self.dilation)


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
