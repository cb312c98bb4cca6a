"""Where a cache keeps which token, and which of them a query reads: arithmetic on positions alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.patterns import Kept, Pattern

__all__ = ["Blocks", "Everything", "Layout", "Ring", "layouts"]


class Layout(ABC):
    """A rule that gives tokens slots of a buffer. Positions and slots are int64 tensors in main memory."""

    @abstractmethod
    def room(self, tokens: int) -> int:
        """Slots that the buffer must have once so many tokens were read."""

    @abstractmethod
    def holds(self, positions: Int[Tensor, "n"], tokens: int) -> Bool[Tensor, "n"]:
        """Which of these positions are kept once so many tokens were read."""

    @abstractmethod
    def slots(self, positions: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """The slots of positions that are kept."""

    def oldest(self, tokens: int) -> int:
        """No earlier position is kept."""
        return 0

    def kept(self, first: int, tokens: int) -> Int[Tensor, "n"]:
        """The positions from `first` on that are kept once so many tokens were read, rising."""
        positions = torch.arange(max(first, self.oldest(tokens)), tokens)
        return positions[self.holds(positions, tokens)]


@dataclass(frozen=True)
class Everything(Layout):
    """Every token, at its own position."""

    def room(self, tokens: int) -> int:
        return tokens

    def holds(self, positions: Int[Tensor, "n"], tokens: int) -> Bool[Tensor, "n"]:
        return positions < tokens

    def slots(self, positions: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        return positions


@dataclass(frozen=True)
class Ring(Layout):
    """The last `size` tokens: a new one takes the slot of the oldest."""

    size: int

    def room(self, tokens: int) -> int:
        return min(tokens, self.size)

    def holds(self, positions: Int[Tensor, "n"], tokens: int) -> Bool[Tensor, "n"]:
        return (positions >= self.oldest(tokens)) & (positions < tokens)

    def slots(self, positions: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        return positions % self.size

    def oldest(self, tokens: int) -> int:
        return max(0, tokens - self.size)


@dataclass(frozen=True)
class Blocks(Layout):
    """The cells of all blocks of `stride`, at places `first` to `stop` of each, and with `block` the last block's rest.

    The rest lies before the cells, in reverse, and the cells follow in order: what a query of `Fixed` sees is then one
    run of slots, read in place.
    """

    stride: int
    first: int
    stop: int
    block: bool

    @property
    def cells(self) -> int:
        """Cells of a block."""
        return self.stop - self.first

    @property
    def rest(self) -> int:
        """Slots for the last block's other tokens."""
        return self.stride - self.cells if self.block else 0

    def room(self, tokens: int) -> int:
        blocks, place = divmod(tokens, self.stride)
        return self.rest + blocks * self.cells + min(max(place - self.first, 0), self.cells)

    def holds(self, positions: Int[Tensor, "n"], tokens: int) -> Bool[Tensor, "n"]:
        last = (positions // self.stride == (tokens - 1) // self.stride) & self.block
        return (self._is_cell(positions) | last) & (positions < tokens)

    def slots(self, positions: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        block, place = positions // self.stride, positions % self.stride
        cell = self.rest + block * self.cells + place - self.first
        other = self.rest - 1 - torch.where(place < self.first, place, place - self.cells)
        return torch.where(self._is_cell(positions), cell, other)

    def _is_cell(self, positions: Int[Tensor, "n"]) -> Bool[Tensor, "n"]:
        place = positions % self.stride
        return (place >= self.first) & (place < self.stop)


def layouts(pattern: Pattern) -> tuple[Layout, ...]:
    """What has to be kept for the queries of one pattern that are still to come: what it says, as rules for buffers.

    A token that two layouts hold is read from the first. Raises InputError for a pattern that looks ahead.
    """
    if pattern.prefix is None:
        raise InputError(
            f"a cache cannot continue '{pattern}'; it is for causal patterns: Full(causal=True), Window(n, 0), "
            "Strided, Fixed, Sink, Chunks and others, for Prefix, and for their unions and groups of heads"
        )
    kept = pattern.keeps()
    if not isinstance(kept, Kept):
        raise InputError(f"keeps of '{pattern}' gave {quote(kept)}; it must be gossamer.patterns.Kept")
    if kept.recent is None:
        return (Everything(),)
    ring = (Ring(kept.recent),) if kept.recent else ()
    return (*ring, *(Blocks(one.stride, one.first, one.stop, one.block) for one in kept.cells))
