"""Everybody sees its own chunk of the text, and so many before and after it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import LARGEST, check_boolean, check_integer
from gossamer.patterns.fixed import Fixed
from gossamer.patterns.full import Full
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import Band, Kept, Pieces, outside
from gossamer.patterns.reach import Reach
from gossamer.patterns.strided import Strided
from gossamer.patterns.sums import Steps, offsets
from gossamer.patterns.window import Window

__all__ = ["Chunks"]

MOST_AROUND = 1024
"""Blocks around a ring, which are keys once more."""


@dataclass(frozen=True)
class Chunks(Pattern, kind="chunks"):
    """Query i sees key j in the same block of `size` tokens of the document; causal: when besides j <= i.

    With `before` and `after` it sees so many blocks before and after its own, too. With a `ring` the first blocks and
    the last ones are neighbours, as Reformer's local layers have them: a text is filled up to a multiple of `ring`
    tokens, and its last block lies before its first. A text of one block has no ring, nor have documents that share a
    row; keys that are met both ways round count twice. What `allowed` says knows of no ring.
    Source: block attention, of Sparse Transformer's fixed attention (Child et al. 2019, arXiv 1904.10509, section 4.3)
    the block alone; chunked attention in Llama 4; with neighbours, local attention of Reformer's published code.
    """

    size: int
    causal: bool = True
    before: int = 0
    after: int = 0
    ring: int = 0
    short = "chunks(256)"
    later = ("before", "after", "ring")

    def __post_init__(self) -> None:
        check_integer("Chunks", "size", self.size, 1)
        check_boolean("Chunks", "causal", self.causal)
        for name in ("before", "after", "ring"):
            check_integer("Chunks", name, getattr(self, name), 0)
        if self.causal and self.after:
            raise InputError(f"Chunks: after is {self.after}; it must be 0 where causal: nobody sees later blocks")
        if max(self.before + 1, self.after + 1) * self.size > LARGEST:
            raise InputError(
                f"Chunks: size is {self.size}, before {self.before} and after {self.after}; they may reach over "
                f"{LARGEST} tokens at most"
            )
        if self.ring and max(self.before, self.after) > MOST_AROUND:
            looks = f"before is {self.before} and after {self.after}"
            raise InputError(f"Chunks: {looks}; around a ring they must be at most {MOST_AROUND}")
        if self.ring and (self.ring % self.size or self.causal or not self.before + self.after):
            raise InputError(
                f"Chunks: ring is {self.ring}; it must be 0, or a multiple of size, {self.size}, where blocks before "
                "or after are seen and causal is false"
            )

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        apart = key_positions[..., None, :] // self.size - query_positions[..., :, None] // self.size
        near = (apart >= -self.before) & (apart <= self.after)
        return near & (offsets(query_positions, key_positions) <= 0) if self.causal else near

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        if queries == 0 or keys == 0:
            return True
        if self.blocks_around(keys):
            return False
        first, last = query_start // self.size, (query_start + queries - 1) // self.size
        reached = last - self.before <= 0 and (keys - 1) // self.size <= first + self.after
        return reached and (not self.causal or keys - 1 <= query_start)

    def __str__(self) -> str:
        near = f", {self.before} before, {self.after} after" if self._is_wide else ""
        ring = f", a ring of {self.ring}s" if self.ring else ""
        return f"chunks {self.size}{near}{ring}" if self.causal else f"chunks {self.size}{near}{ring} (both ways)"

    @property
    def is_local(self) -> bool:
        return not self.ring

    @property
    def period(self) -> int:
        return self.size

    def pieces(self) -> Pieces:
        low, high = 1 - self.size * (self.before + 1), 0 if self.causal else self.size * (self.after + 1) - 1
        near = self.before, self.after
        return Pieces((Band(low=low, high=high, stride=self.size, own_block=True, near=near),))

    def pieces_with(self, window: Band) -> Pieces | None:
        return Pieces(outside(window, self.pieces().bands)) if self.causal and not self._is_wide else None

    def keeps(self) -> Kept:
        return Kept(self.size * (self.before + 1))

    def reach(self) -> Reach | None:
        after = 0 if self.causal else self.size * (self.after + 1) - 1
        reach = Reach(before=self.size * (self.before + 1) - 1, after=after, block=self.size)
        return None if self.ring else reach

    def sees(self, position: int) -> Tensor:
        return torch.arange(max(0, position // self.size - self.before) * self.size, position + 1)

    def among(self, tokens: int) -> Pattern:
        return Full(self.causal) if self.size >= tokens else self

    def near(self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None) -> Tensor:
        blocks = torch.arange(-self.before, self.after + 1, device=at.device)
        near = torch.isin(keys // self.size, (at[:, None] // self.size + blocks).unique())
        return near & (keys <= at.max()) if self.causal else near

    @classmethod
    def from_numbers(cls, size: int) -> Pattern:  # type: ignore[override]
        return cls(size)

    def _merged_with(self, other: Pattern) -> Pattern | None:
        if self._is_wide or (isinstance(other, Chunks) and other._is_wide):
            return self if other == self else None
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
    def _is_wide(self) -> bool:
        """Whether other blocks are seen than the own one."""
        return self.before + self.after > 0

    @property
    def _as_fixed(self) -> Fixed:
        """The own block, where it is causal."""
        return Fixed(self.size, 1, "block")

    def _count(self, grid: Grid) -> int:
        if self._blocks_in(grid):
            return super()._count(grid)
        own = self._as_fixed._count(grid) if self.causal else 0
        last = -1 if self.causal else self.after
        return own + grid.copies * sum(self._pairs_apart(grid, apart) for apart in range(-self.before, last + 1))

    def _pairs_apart(self, grid: Grid, apart: int) -> int:
        """Pairs whose blocks are so many apart, of which only those at the ends of queries and keys are not whole."""
        start, stop = grid.query_start, grid.query_start + grid.queries
        last_key = (grid.keys - 1) // self.size
        first, last = max(start // self.size, -apart), min((stop - 1) // self.size, last_key - apart)
        if last < first or not grid.queries or not grid.keys:
            return 0
        ends = {block for block in (first, last) if first <= block <= last}
        pairs = sum(self._inside(one, start, stop) * self._inside(one + apart, 0, grid.keys) for one in ends)
        return pairs + (last - first + 1 - len(ends)) * self.size**2

    def _inside(self, block: int, start: int, stop: int) -> int:
        """How many places from `start` to `stop` lie in the block."""
        return max(0, min(stop, (block + 1) * self.size) - max(start, block * self.size))

    def _count_beside(self, window: Steps, grid: Grid) -> int | None:
        return self._as_fixed._count_beside(window, grid) if self.causal and not self._is_wide else None

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        if self._blocks_in(grid):
            return super()._row_sums(grid, values)
        running = torch.nn.functional.pad(values.cumsum(-1), (1, 0))
        block = grid.query_positions // self.size
        start = ((block - self.before) * self.size).clamp(0, grid.keys)
        stop = grid.query_positions + 1 if self.causal else (block + self.after + 1) * self.size
        stop = stop.clamp(0, grid.keys)
        return running.index_select(-1, torch.maximum(start, stop)) - running.index_select(-1, start)

    def _row_sums_beside(self, window: Steps, grid: Grid, values: Tensor) -> Tensor | None:
        return self._as_fixed._row_sums_beside(window, grid, values) if self.causal and not self._is_wide else None

    def blocks_around(self, tokens: int) -> int:
        """Blocks of the ring that so many tokens lie in; 0 where there is none."""
        return -(-tokens // self.ring) * self.ring // self.size if self.ring and tokens > self.size else 0

    def _blocks_in(self, grid: Grid) -> int:
        return self.blocks_around(grid.keys)

    def _dense(self, grid: Grid) -> Tensor:
        around = self._blocks_in(grid)
        if not around:
            return super()._dense(grid)
        apart = grid.key_positions // self.size - grid.query_positions[:, None] // self.size
        seen = (apart + self.before) % around <= self.before + self.after
        return seen.expand(*grid.lead, grid.queries, grid.keys)
