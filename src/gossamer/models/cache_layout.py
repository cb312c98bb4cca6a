"""Where a cache keeps which token, and which of them a query reads: arithmetic on positions alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns import Fixed, Full, Pattern, Strided, Union, Window

__all__ = ["Blocks", "Everything", "Layout", "Ring", "layouts", "parts_of", "seen", "within"]


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


def parts_of(pattern: Pattern) -> tuple[Pattern, ...]:
    """The parts of a union; another pattern alone."""
    return pattern.parts if isinstance(pattern, Union) else (pattern,)


def within(pattern: Pattern, longest: int) -> Pattern:
    """What the pattern is among the first `longest` tokens: of one block that holds them all, a plain causal one.

    A buffer for the block would else be as long as that, however few tokens there will be.
    """
    one_block = isinstance(pattern, Fixed) and pattern.block and pattern.stride >= longest
    return Full(causal=True) if one_block else pattern


def layouts(pattern: Pattern) -> tuple[Layout, ...]:
    """What has to be kept for the queries of one causal pattern that are still to come.

    `Window`: a ring of before * dilation + 1 tokens; `Fixed`: the cells of all blocks and the current block; `Strided`
    with its column, and `Full`: everything. A union keeps the longest ring and the cells of all its parts; a token that
    two of its layouts hold is read from the first. Raises InputError for a pattern that looks ahead or is unknown.
    """
    found = parts_of(pattern)
    if not pattern.causal or not all(isinstance(one, Full | Window | Strided | Fixed) for one in found):
        raise InputError(
            f"a cache cannot continue '{pattern}'; it is for causal patterns: Full(causal=True), Window(n, 0), "
            "Strided, Fixed, and their unions and groups of heads"
        )
    if isinstance(pattern, Fixed):
        return (Blocks(pattern.stride, *pattern.cells, pattern.block),)
    if any(isinstance(one, Full) or (isinstance(one, Strided) and one.column) for one in found):
        return (Everything(),)
    reach = max(_reach(one) for one in found)
    ring = (Ring(reach),) if reach else ()
    with_cells = [one for one in found if isinstance(one, Fixed) and one.part != "block"]
    return (*ring, *(Blocks(one.stride, *one.cells, False) for one in with_cells))


def _reach(pattern: Pattern) -> int:
    """How many of the last tokens, its own included, a query reads, cells aside."""
    if isinstance(pattern, Window):
        return pattern.before * pattern.dilation + 1
    if isinstance(pattern, Strided):
        return pattern.stride + 1
    return pattern.stride if isinstance(pattern, Fixed) and pattern.block else 0


def seen(pattern: Pattern, position: int) -> Int[Tensor, "n"]:
    """The positions that the query at `position` sees, rising: `allowed` as a list, in as many steps as it is long."""
    match pattern:
        case Union():
            return torch.cat([seen(one, position) for one in pattern.parts]).unique()
        case Window():
            steps = min(pattern.before, position // pattern.dilation)
            return torch.arange(position - steps * pattern.dilation, position + 1, pattern.dilation)
        case Strided():
            near = max(0, position - pattern.stride) if pattern.local else position + 1
            stop = near if pattern.column else 0
            column = torch.arange(min(position % pattern.stride, stop), stop, pattern.stride)
            return torch.cat([column, torch.arange(near, position + 1)])
        case Fixed():
            return _seen_of_fixed(pattern, position)
    return torch.arange(position + 1)


def _seen_of_fixed(pattern: Fixed, position: int) -> Int[Tensor, "n"]:
    first, stop = pattern.cells
    blocks, place = divmod(position, pattern.stride)
    cells = torch.arange(blocks)[:, None] * pattern.stride + torch.arange(first, stop if blocks else first)
    own = torch.arange(0, place + 1) if pattern.block else torch.arange(first, max(first, min(stop, place + 1)))
    return torch.cat([cells.flatten(), own + blocks * pattern.stride])
