"""Everybody sees its own chunk of the text, and nothing else."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import check_boolean, check_integer
from gossamer.patterns.fixed import Fixed
from gossamer.patterns.full import Full
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import Band, Kept, Pieces, outside
from gossamer.patterns.strided import Strided
from gossamer.patterns.sums import Steps, offsets
from gossamer.patterns.window import Window

__all__ = ["Chunks"]


@dataclass(frozen=True)
class Chunks(Pattern, kind="chunks"):
    """Query i sees key j in the same block of `size` tokens of the document; causal: when besides j <= i.

    Source: block attention, of Sparse Transformer's fixed attention (Child et al. 2019, arXiv 1904.10509, section 4.3)
    the block alone; chunked attention in Llama 4.
    """

    size: int
    causal: bool = True
    short = "chunks(256)"

    def __post_init__(self) -> None:
        check_integer("Chunks", "size", self.size, 1)
        check_boolean("Chunks", "causal", self.causal)

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        same = query_positions[..., :, None] // self.size == key_positions[..., None, :] // self.size
        return same & (offsets(query_positions, key_positions) <= 0) if self.causal else same

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        if queries == 0 or keys == 0:
            return True
        ends = {query_start // self.size, (query_start + queries - 1) // self.size, 0, (keys - 1) // self.size}
        return len(ends) == 1 and (not self.causal or keys - 1 <= query_start)

    def __str__(self) -> str:
        return f"chunks {self.size}" if self.causal else f"chunks {self.size} (both ways)"

    @property
    def period(self) -> int:
        return self.size

    def pieces(self) -> Pieces:
        high = 0 if self.causal else self.size - 1
        return Pieces((Band(low=1 - self.size, high=high, stride=self.size, own_block=True),))

    def pieces_with(self, window: Band) -> Pieces | None:
        return Pieces(outside(window, self.pieces().bands)) if self.causal else None

    def keeps(self) -> Kept:
        return Kept(self.size)

    def sees(self, position: int) -> Tensor:
        return torch.arange(position // self.size * self.size, position + 1)

    def among(self, tokens: int) -> Pattern:
        return Full(self.causal) if self.size >= tokens else self

    def near(self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None) -> Tensor:
        same = torch.isin(keys // self.size, at // self.size)
        return same & (keys <= at.max()) if self.causal else same

    @classmethod
    def from_numbers(cls, size: int) -> Pattern:  # type: ignore[override]
        return cls(size)

    def _merged_with(self, other: Pattern) -> Pattern | None:
        if isinstance(other, Window):
            if other.before == other.after == 0:
                return self
            within = other.dilation == 1 and self._within(other.before, other.after)
            return other if within else None
        if isinstance(other, Strided):
            return other if self.causal and self._within(other.stride if other.local else 0, 0) else None
        if isinstance(other, Fixed):
            return other if self.causal and other.block and other.stride % self.size == 0 else None
        if not isinstance(other, Chunks) or self.size % other.size:
            return None
        if self.causal and not other.causal and other.size > 1:
            return other if self.size == other.size else None
        return self

    def _within(self, before: int, after: int) -> bool:
        """Whether nobody sees further than this."""
        return before >= self.size - 1 and (self.causal or after >= self.size - 1)

    @property
    def _as_fixed(self) -> Fixed:
        """The same pattern, where it is causal."""
        return Fixed(self.size, 1, "block")

    def _count(self, grid: Grid) -> int:
        """Both ways: by blocks, of which only those at the ends of queries and keys are not whole."""
        if self.causal:
            return self._as_fixed._count(grid)
        start, stop = max(0, grid.query_start), grid.query_start + grid.queries
        stop = min(stop, -(-grid.keys // self.size) * self.size)
        if stop <= start:
            return 0
        first, last = start // self.size, (stop - 1) // self.size
        ends = {block for block in (first, last, (grid.keys - 1) // self.size) if first <= block <= last}
        pairs = sum(self._inside(block, start, stop) * self._inside(block, 0, grid.keys) for block in ends)
        return grid.copies * (pairs + (last - first + 1 - len(ends)) * self.size**2)

    def _inside(self, block: int, start: int, stop: int) -> int:
        """How many places from `start` to `stop` lie in the block."""
        return max(0, min(stop, (block + 1) * self.size) - max(start, block * self.size))

    def _count_beside(self, window: Steps, grid: Grid) -> int | None:
        return self._as_fixed._count_beside(window, grid) if self.causal else None

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        if self.causal:
            return self._as_fixed._row_sums(grid, values)
        running = torch.nn.functional.pad(values.cumsum(-1), (1, 0))
        start = grid.query_positions // self.size * self.size
        start, stop = start.clamp(0, grid.keys), (start + self.size).clamp(0, grid.keys)
        return running.index_select(-1, stop) - running.index_select(-1, start)

    def _row_sums_beside(self, window: Steps, grid: Grid, values: Tensor) -> Tensor | None:
        return self._as_fixed._row_sums_beside(window, grid, values) if self.causal else None
