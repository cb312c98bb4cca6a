"""Everybody sees its own block, and the last few tokens of every block before it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import check_choice, check_integer
from gossamer.patterns.full import Full
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import Band, Cells, Kept, Pieces, outside
from gossamer.patterns.strided import Strided
from gossamer.patterns.sums import Steps, band_row_sums, offsets
from gossamer.patterns.window import Window

__all__ = ["Fixed"]

PARTS = ("both", "block", "summary")
STEPS_AT_ONCE = 2**16
"""Steps of a window whose pairs are counted together."""


@dataclass(frozen=True)
class Fixed(Pattern, kind="fixed"):
    """Causal; block: query i sees key j in the same block of `stride`; summary: when j mod stride is a summary cell.

    The `summary` cells of a block end `offset` before the block does, so that heads can have cells of their own.
    `part` is "both", "block" or "summary", for heads that share the work.
    Source: Sparse Transformer (Child et al. 2019, arXiv 1904.10509), section 4.3, fixed attention; its l is `stride`,
    its c `summary`; the offsets are the distinct subblocks of section 4.3's last paragraph.
    """

    stride: int
    summary: int
    part: str = "both"
    offset: int = 0
    short = "fixed(128, 8)"

    def __post_init__(self) -> None:
        check_integer("Fixed", "stride", self.stride, 1)
        check_integer("Fixed", "summary", self.summary, 1)
        check_choice("Fixed", "part", self.part, PARTS)
        check_integer("Fixed", "offset", self.offset, 0)
        if self.summary + self.offset > self.stride:
            raise InputError(
                f"Fixed: summary is {self.summary} and offset {self.offset}; together they must fit into the block of"
                f" {self.stride}: take a smaller one"
            )

    @property
    def causal(self) -> bool:
        return True

    @property
    def block(self) -> bool:
        """Whether the own block is seen."""
        return self.part != "summary"

    @property
    def cells(self) -> tuple[int, int]:
        """Places in a block of the first summary cell and behind the last; (0, 0) where none is seen."""
        stop = self.stride - self.offset
        return (0, 0) if self.part == "block" else (stop - self.summary, stop)

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        seen = (query_positions[..., :, None] // self.stride == key_positions[..., None, :] // self.stride) & self.block
        return (seen | self._is_cell(key_positions)[..., None, :]) & (offsets(query_positions, key_positions) <= 0)

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        if queries == 0 or keys == 0:
            return True
        own = query_start // self.stride
        within = self.block and (query_start + queries - 1) // self.stride == own
        # Of the keys before 'needed', none lies in the block of every query.
        needed = min(keys, own * self.stride) if within else keys
        first, stop = self.cells
        cells = needed == 0 or (first == 0 and (needed <= stop or stop == self.stride))
        return keys - 1 <= query_start and cells

    def __str__(self) -> str:
        offset = f" {self.offset} before the end" if self.offset else ""
        return f"fixed {self.stride}, {self.summary} in summary{offset}" + (
            "" if self.part == "both" else f" ({self.part})"
        )

    @classmethod
    def from_numbers(cls, stride: int, summary: int) -> Pattern:  # type: ignore[override]
        return cls(stride, summary)

    def _merged_with(self, other: Pattern) -> Pattern | None:
        if isinstance(other, Window):
            if self.block and other.before == other.after == 0:
                return self
            return other if self._within(other.before if other.dilation == 1 else 0) else None
        if isinstance(other, Strided):
            return other if self._within(other.stride if other.local else 0) else None
        if not isinstance(other, Fixed) or self.stride != other.stride:
            return None
        return self._joined_with(other)

    def _within(self, before: int) -> bool:
        """Whether nobody sees further back than this, at any length."""
        return self.part == "block" and before >= self.stride - 1

    def _joined_with(self, other: "Fixed") -> "Fixed | None":
        """Two of one stride, where their cells touch."""
        with_cells = [one for one in (self, other) if one.part != "block"]
        if not with_cells:
            return min(self, other, key=lambda one: one._sort_key())
        first, last = min(one.cells[0] for one in with_cells), max(one.cells[1] for one in with_cells)
        if last - first > sum(one.summary for one in with_cells):
            return None
        part = "both" if self.block or other.block else "summary"
        return Fixed(self.stride, last - first, part, self.stride - last)

    @property
    def period(self) -> int:
        return self.stride

    def pieces(self) -> Pieces:
        """The own block without its summary cells, and all summary cells."""
        first, stop = self.cells
        own = Band(low=1 - self.stride, high=0, stride=self.stride, own_block=True, first=first, stop=stop)
        bands = (own,) if self.block else ()
        return Pieces(bands if self.part == "block" else (*bands, replace(own, low=None, own_block=False)))

    def pieces_with(self, window: Band) -> Pieces:
        return Pieces(outside(window, self.pieces().bands))

    def keeps(self) -> Kept:
        return Kept(cells=(Cells(self.stride, *self.cells, self.block),))

    def sees(self, position: int) -> Tensor:
        first, stop = self.cells
        blocks, place = divmod(position, self.stride)
        cells = torch.arange(blocks)[:, None] * self.stride + torch.arange(first, stop if blocks else first)
        own = torch.arange(0, place + 1) if self.block else torch.arange(first, max(first, min(stop, place + 1)))
        return torch.cat([cells.flatten(), own + blocks * self.stride])

    def among(self, tokens: int) -> Pattern:
        """Of one block that holds them all, a plain causal one: a block's buffer is as long as the block."""
        return Full(causal=True) if self.block and self.stride >= tokens else self

    def walks(self) -> tuple[Pattern, ...]:
        return (replace(self, part="block"), replace(self, part="summary")) if self.part == "both" else (self,)

    def near(
        self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None
    ) -> Tensor | None:
        if self.part == "both":  # its parts are asked, see `walks`
            return None
        seen = torch.isin(keys // self.stride, at // self.stride) if self.block else self._is_cell(keys)
        return seen & (keys <= at.max())

    def _is_cell(self, positions: Tensor) -> Tensor:
        first, stop = self.cells
        place = positions % self.stride
        return (place >= first) & (place < stop)

    def _count(self, grid: Grid) -> int:
        """In closed form, like that of a band: key counts grow by the same number from block to block."""
        start, stop = max(0, grid.query_start), max(0, grid.query_start + grid.queries)
        pairs = self._cells_seen(stop, grid.keys) - self._cells_seen(start, grid.keys)
        if self.block:
            pairs += self._others_seen(stop, grid.keys) - self._others_seen(start, grid.keys)
        return grid.copies * pairs

    def _count_beside(self, window: Steps, grid: Grid) -> int:
        """Pairs that this pattern has and the window has not: all but those of each of the window's steps."""
        steps = min(window.before, grid.span // window.size) + 1
        common = 0
        for first in range(0, steps, STEPS_AT_ONCE):
            back = torch.arange(first, min(first + STEPS_AT_ONCE, steps)) * window.size
            start = (grid.query_start - back).clamp(0, grid.keys)
            stop = (grid.query_start + grid.queries - back).clamp(0, grid.keys)
            common += int((self._seen_back(back, stop) - self._seen_back(back, start)).sum())
        return self._count(grid) - grid.copies * common

    def _seen_back(self, back: Tensor, stop: Tensor) -> Tensor:
        """How many of the keys 0 to stop are seen by the query that stands so far behind them."""
        first, last = self.cells
        blocks, rest = stop // self.stride, stop % self.stride
        seen = blocks * (last - first) + (rest - first).clamp(0, last - first)
        if not self.block:
            return seen
        within = (self.stride - back).clamp(min=0)  # places from which that query is still in the block
        others = within - (within - first).clamp(0, last - first)
        rest = torch.minimum(rest, within)
        return seen + blocks * others + rest - (rest - first).clamp(0, last - first)

    def _cells_seen(self, stop: int, keys: int) -> int:
        """Cells that the queries 0 to stop see, each all of those up to its own place: a sum over numbers of cells."""
        count = self.cells[1] - self.cells[0]
        inside = min(stop, keys)
        blocks, rest = divmod(inside + 1, self.stride)
        whole = blocks * (blocks - 1) // 2 * count * self.stride + blocks * self._cells_sum(self.stride - 1)
        last, there = divmod(keys, self.stride)
        every_cell = last * count + self._cells_in(there)
        return whole + rest * blocks * count + self._cells_sum(rest - 1) + (stop - inside) * every_cell

    def _others_seen(self, stop: int, keys: int) -> int:
        """Keys that are no cells, and which the queries 0 to stop see in their own block."""
        inside = min(stop, keys)
        blocks, rest = divmod(inside, self.stride)
        seen = blocks * self._others_sum(self.stride) + self._others_sum(rest)
        last, there = divmod(keys, self.stride)
        beyond = max(0, min(stop, (last + 1) * self.stride) - keys)
        return seen + beyond * (there - self._cells_in(there))

    def _cells_in(self, places: int) -> int:
        """How many of a block's first places are cells."""
        first, stop = self.cells
        return min(max(places - first, 0), stop - first)

    def _cells_sum(self, places: int) -> int:
        """The sum of `_cells_in` over 0 to `places`."""
        first, stop = self.cells
        rising = self._cells_in(places)
        return rising * (rising + 1) // 2 + max(0, places - stop) * (stop - first)

    def _others_sum(self, places: int) -> int:
        """The sum over 1 to `places` of how many of a block's first places are no cells."""
        return places * (places + 1) // 2 - self._cells_sum(places)

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        return self._row_sums_beside(None, grid, values)

    def _row_sums_beside(self, window: Steps | None, grid: Grid, values: Tensor) -> Tensor:
        """Sums over the keys that this pattern sees and the window does not: cells before, others in the own block."""
        is_cell = self._is_cell(grid.key_positions)
        everything = grid.span
        parts: list[tuple[Tensor, Tensor | None]] = [(values * is_cell, None)]
        if self.block:
            parts.append((values * ~is_cell, grid.query_positions // self.stride * self.stride))
        sums = values.new_zeros((*values.shape[:-1], grid.queries))
        for chosen, least in parts:
            sums += band_row_sums(grid, chosen, everything, 0, 1, least)
            if window is not None:
                sums -= band_row_sums(grid, chosen, window.before, 0, window.size, least)
        return sums
