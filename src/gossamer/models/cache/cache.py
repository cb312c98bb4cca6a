"""What a decoder keeps of the tokens that it has read, so that each new one costs a step and not the whole text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.errors import InputError, plural, quote
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.cache.cross import CrossMemory
from gossamer.models.cache.memory import LayerMemory
from gossamer.models.cache.plan import State, begin

__all__ = ["Cache", "StackCache"]


class StackCache:
    """The memory of a stack of layers for a batch of texts, `longest` tokens each at most.

    Every applied layer keeps what its later queries can see, as its pattern says, and no more: the last `before *
    dilation + 1` tokens under a `Window`, the summary cells of all blocks and the current block under `Fixed`,
    everything under `Strided` and `Full(causal=True)`. Of each row these are the real tokens (attention_mask, of the
    new tokens), by which positions are counted. Any number of tokens may come at once: many are read by the ordinary
    attention, single ones cost a step each; the first must be no fewer than the prefix of a `Prefix`. Of other states
    that layers attend to, the keys and values of each weight set are kept from the first call on. No gradient flows
    through it. Raises InputError for a pattern that looks ahead.
    """

    def __init__(self, layers: Sequence[Layer], longest: int) -> None:
        self.layers = tuple(layers)
        self.longest = longest
        self._prefix = max(one.attention.pattern.prefix or 0 for one in layers)
        self._state = State()
        self.memories = tuple(
            LayerMemory(one.attention.pattern, one.attention.heads, longest, self._state) for one in layers
        )
        crossing = [one.cross_attention for one in layers if one.cross_attention is not None]
        self.cross_memories = {one.weights: CrossMemory() for one in crossing}

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens each row holds; () before the first call."""
        return self._state.lengths or ()

    @property
    def bytes(self) -> int:
        """What all keys and values take, room to grow included."""
        return sum(one.bytes for one in self.memories) + sum(one.bytes for one in self.cross_memories.values())

    @property
    def holds_other_states(self) -> bool:
        """Whether it keeps what layers attend to beside the text: then no other states are to be given."""
        return any(one.filled for one in self.cross_memories.values())

    def cross_memory(self, layer: Layer) -> CrossMemory | None:
        """What is kept of the other states for this layer, if it attends to any."""
        return None if layer.cross_attention is None else self.cross_memories[layer.cross_attention.weights]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch alone, in this order: those that go on, or one several times."""
        held = len(self.lengths)
        if not held:
            raise InputError("the cache is empty: read something with it before some rows of it are selected")
        if not rows or not all(type(one) is int and 0 <= one < held for one in rows):
            raise InputError(f"rows is {quote(rows)}; it must be a list of rows from 0 to {held - 1}, one or more")
        at = torch.tensor(list(rows))
        for one in self.memories:
            one.select(at)
        for other in self.cross_memories.values():
            other.select(at)
        self._state.lengths = tuple(self.lengths[one] for one in rows)
        if self._state.shifts is not None:
            self._state.shifts = tuple(self._state.shifts[one] for one in rows)

    def position_ids(
        self, shape: torch.Size, attention_mask: Tensor | None, *, by_place: bool = False
    ) -> Int[Tensor, "batch new"]:
        """Begin a call with [batch, new] tokens: their positions, from 0; padding has that of the token before it.

        attention_mask: boolean, of the new tokens. by_place: padding before the text, at the first call, counts as
        positions. Raises InputError for another batch than before, for more tokens
        than the model reads, and after a call that did not end.
        """
        batch, new = shape
        if self._state.begun:
            raise InputError(
                "the last call with this cache was broken off, so what it holds is incomplete: make a new one"
            )
        before = self._state.lengths or (0,) * batch
        if len(before) != batch:
            raise InputError(
                f"the cache holds {plural(len(before), 'row')} and the batch has {batch}; give one token list a row"
            )
        chunk, positions = begin(before, new, attention_mask)
        self._check_prefix(before, chunk.counts)
        if by_place and self._state.lengths is None and attention_mask is not None:
            self._state.shifts = _before_text(attention_mask)
        shifts = self._state.shifts or (0,) * batch
        self._check_room([held + shift for held, shift in zip(before, shifts, strict=True)], chunk.counts)
        self._state.chunk = chunk
        return positions + torch.tensor(shifts, device=positions.device)[:, None] if any(shifts) else positions

    def finish(self) -> None:
        """End a call: all layers have kept its tokens."""
        chunk = self._state.chunk
        if chunk is not None:
            self._state.lengths = tuple(one + new for one, new in zip(chunk.before, chunk.counts, strict=True))
        self._state.chunk, self._state.begun = None, False

    def _check_prefix(self, before: Sequence[int], counts: Sequence[int]) -> None:
        for i, (held, new) in enumerate(zip(before, counts, strict=True)):
            if (new and held + new < self._prefix) or 0 < held < self._prefix:
                raise InputError(
                    f"row {i} begins with {plural(held + new, 'token')}; the model's pattern has a prefix of "
                    f"{self._prefix} that see one another: give at least as many at once"
                )

    def _check_room(self, before: Sequence[int], counts: Sequence[int]) -> None:
        for i, (held, new) in enumerate(zip(before, counts, strict=True)):
            if held + new > self.longest:
                raise InputError(
                    f"row {i} of the cache holds {plural(held, 'token')} and {new} more were given; the model reads "
                    f"{self.longest}"
                )


def _before_text(mask: Bool[Tensor, "batch new"]) -> tuple[int, ...]:
    """How many places of padding each row begins with; 0 for a row without a token, whose text has not begun."""
    return tuple(int(row.int().argmax()) for row in mask)


class Cache(StackCache):
    """The memory of a decoder for a batch of texts: `model(input_ids, cache=cache)` reads on where it stopped.

    Of a model of two texts it keeps the second, and what the second's layers attend to of the first.

    What it keeps and what it takes is said of `StackCache`. Raises InputError for an architecture with a pattern that
    looks ahead.
    """

    def __init__(self, architecture: Architecture) -> None:
        if not isinstance(architecture, Architecture):
            kind = type(architecture).__name__
            raise InputError(f"a cache was made of a {kind}; it is made of a description: Cache(model.architecture)")
        decoder = architecture.decoder
        super().__init__(architecture.writing_layers, architecture.length if decoder is None else decoder.length)
