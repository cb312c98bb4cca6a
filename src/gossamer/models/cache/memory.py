"""The keys and values that a cache keeps of one layer, and attention over them.

A step of one token a row costs, for each layer and group of heads, two copies into the buffers and one call of torch's
attention, and two gathers where what is seen is no run of slots. What it cannot be faster than is reading: every weight
of the model once for all rows together, and 2 * heads * head_size numbers of every token that a row sees.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.kernels import attend
from gossamer.kernels.distance_bias import DistanceBias
from gossamer.layers import TokenInfo, reading_seed
from gossamer.models.cache.layout import Layout, layouts
from gossamer.models.cache.one_query import attend_alone
from gossamer.models.cache.plan import Chunk, Span, State, Writes
from gossamer.patterns import Pattern
from gossamer.patterns.head_groups import groups_of

__all__ = ["LayerMemory"]

FEWEST = 32
"""Slots that a buffer starts with, if it will ever need as many."""

Heads = Float[Tensor, "batch heads new size"]
KeyHeads = Float[Tensor, "batch key_heads keys size"]
Own = tuple[
    Float[Tensor, "batch own_heads new size"],
    Float[Tensor, "batch own_key_heads keys size"],
    Float[Tensor, "batch own_key_heads keys size"],
]


class Buffer:
    """Keys and values of some heads in the slots of one layout; grows by half at a time."""

    def __init__(self, layout: Layout, longest: int) -> None:
        self.layout = layout
        self.most = layout.room(longest)
        self.keys = torch.empty(0, 0, 0, 0)
        self.values = self.keys

    @property
    def bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def make_room(self, tokens: int, like: KeyHeads) -> None:
        """Have the slots that so many tokens need, for a batch and heads like these."""
        needed, have = self.layout.room(tokens), self.keys.shape[2]
        if needed <= have:
            return
        slots = min(max(needed, have + have // 2, FEWEST), self.most)
        # What is made in inference mode could not be written to outside of it. NaN would show through a mask.
        with torch.inference_mode(False):
            larger = [like.new_zeros(like.shape[0], like.shape[1], slots, like.shape[3]) for _ in range(2)]
            if have:
                larger[0][:, :, :have], larger[1][:, :, :have] = self.keys, self.values
        self.keys, self.values = larger

    def write(self, k: KeyHeads, v: KeyHeads, writes: Writes) -> None:
        if not len(writes.slots):
            return
        for kept, new in ((self.keys, k), (self.values, v)):
            if writes.rows is not None:
                kept[writes.rows, :, writes.slots] = new[writes.rows, :, writes.columns]
            elif new.shape[2] == 1:
                kept.index_copy_(2, writes.slots, new)
            else:
                kept[:, :, writes.slots] = new[:, :, writes.columns]

    def read(self, span: Span, rows: slice) -> tuple[KeyHeads, KeyHeads]:
        """Keys and values of a span, [rows, heads, slots, size]."""
        return _read(self.keys[rows], span), _read(self.values[rows], span)

    def select(self, rows: Tensor) -> None:
        with torch.inference_mode(False):
            if len(self.keys):
                self.keys, self.values = self.keys[rows], self.values[rows]


@dataclass(frozen=True)
class Group:
    """Query heads start to stop share a pattern; its buffers hold the key heads that they read."""

    pattern: Pattern
    start: int
    stop: int
    buffers: tuple[Buffer, ...]

    def own(self, q: Heads, k: KeyHeads, v: KeyHeads) -> Own:
        """The heads of this group; key heads that it shares with another group are repeated for each query head."""
        q, share = q[:, self.start : self.stop], q.shape[1] // k.shape[1]
        if self.start % share == 0 == self.stop % share:
            heads = slice(self.start // share, self.stop // share)
            return q, k[:, heads], v[:, heads]
        which = torch.arange(self.start, self.stop, device=k.device) // share
        return q, k[:, which], v[:, which]

    def own_table(self, bias: DistanceBias | None) -> DistanceBias | None:
        """The rows of a table by distance that are of this group's heads."""
        return None if bias is None else replace(bias, table=bias.table[self.start : self.stop])

    def keep(self, k: KeyHeads, v: KeyHeads, chunk: Chunk) -> None:
        """Store of the new tokens what later queries can see."""
        writes = chunk.plan(self.pattern, k.device).writes
        for buffer, one in zip(self.buffers, writes, strict=True):
            buffer.make_room(chunk.most, k)
            buffer.write(k, v, one)

    def step(
        self, q: Heads, k: KeyHeads, v: KeyHeads, chunk: Chunk, scale: float | None, bias: DistanceBias | None
    ) -> Heads:
        """One new token a row: kept first, because it sees itself, then what it sees is read where it lies."""
        self.keep(k, v, chunk)
        reads = chunk.plan(self.pattern, q.device).reads
        assert reads is not None
        found = [one.read(span, slice(None)) for one, span in zip(self.buffers, reads.spans, strict=True) if span.count]
        if not found:
            return torch.zeros_like(q)
        keys, values = found[0] if len(found) == 1 else (torch.cat(one, dim=2) for one in zip(*found, strict=True))
        added = None if bias is None else self._added(bias, chunk, q.device)
        return attend_alone(q, keys, values, scale, mask=reads.mask, blind=reads.blind, bias=added)

    def _added(self, bias: DistanceBias, chunk: Chunk, device: torch.device) -> Float[Tensor, "#batch heads 1 slots"]:
        """What is added to the scores of one new token a row by distance."""
        distances = chunk.distances(self.pattern, device)
        return bias.at(distances.new_zeros(1, 1), distances).movedim(0, 1)

    def extend(
        self,
        q: Heads,
        k: KeyHeads,
        v: KeyHeads,
        before: int,
        rows: slice,
        scale: float | None,
        bias: DistanceBias | None,
    ) -> Heads:
        """Several new tokens of rows that hold `before` each: ordinary attention over what is kept and themselves."""
        places, keys, values = self._contents(before, rows)
        start = len(places)
        if start:
            k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
        if _is_run(self.pattern, places, before):
            return attend(
                q, k, v, self.pattern, query_start=start, scale=scale, distance_bias=bias,
                seed=reading_seed(self.pattern),
            )  # fmt: skip
        positions = torch.cat([places, torch.arange(before, before + q.shape[2])])
        positions = positions.to(q.device).expand(len(q), -1)
        return attend(
            q, k, v, self.pattern, positions=(positions[:, start:], positions), query_start=start, scale=scale,
            distance_bias=bias,
        )  # fmt: skip

    def _contents(self, tokens: int, rows: slice) -> tuple[Int[Tensor, "n"], KeyHeads, KeyHeads]:
        """All that is kept of rows of so many tokens: positions, rising, with their keys and values."""
        places: list[Tensor] = []
        found: list[tuple[KeyHeads, KeyHeads]] = []
        for i, buffer in enumerate(self.buffers):
            kept = buffer.layout.kept(0, tokens)
            for earlier in self.buffers[:i]:
                kept = kept[~earlier.layout.holds(kept, tokens)]
            places.append(kept)
            if len(kept):
                index = buffer.layout.slots(kept).to(buffer.keys.device)
                found.append(buffer.read(Span(0, len(kept), index), rows))
        everything = torch.cat(places)
        if not found:
            return everything, self.buffers[0].keys, self.buffers[0].values
        keys, values = (torch.cat(one, dim=2) for one in zip(*found, strict=True))
        order = everything.argsort()
        at = order.to(keys.device)
        return everything[order], keys[:, :, at], values[:, :, at]


class LayerMemory:
    """What is kept of one applied layer: for each group of heads the tokens that its later queries can see.

    longest: the most tokens that a row will ever hold. state: what all layers of the cache share.
    """

    def __init__(self, pattern: Pattern, heads: int, longest: int, state: State) -> None:
        self._pattern = pattern
        self._state = state
        self._groups: list[Group] = []
        start = 0
        for part, count in groups_of(pattern, heads):
            kept = part.among(longest)
            buffers = tuple(Buffer(layout, longest) for layout in layouts(kept))
            self._groups.append(Group(kept, start, start + count, buffers))
            start += count

    @property
    def bytes(self) -> int:
        """What its keys and values take, room to grow included."""
        return sum(one.bytes for group in self._groups for one in group.buffers)

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch alone, in this order."""
        for group in self._groups:
            for buffer in group.buffers:
                buffer.select(rows)

    @torch.no_grad()
    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        pattern: Pattern,
        tokens: TokenInfo,
        scale: float | None,
        distance_bias: DistanceBias | None = None,
    ) -> Float[Tensor, "batch heads new size"]:
        """Attention of new tokens over what is kept and themselves; keeps them. k and v may have fewer heads than q.

        What is new, and which of it is padding, the cache was told when the call began; padding gives anything.
        Distances are those of the positions that the cache counts.
        """
        bias = None if distance_bias is None else replace(distance_bias, positions=None)
        chunk = self._state.chunk
        assert chunk is not None
        self._state.begun = True
        if chunk.order is None:
            return self._attend(q, k, v, chunk, scale, bias)
        q, k, v = (_ordered(one, chunk.order) for one in (q, k, v))
        return _ordered(self._attend(q, k, v, chunk, scale, bias), chunk.order.argsort(dim=1))

    def _attend(
        self, q: Heads, k: KeyHeads, v: KeyHeads, chunk: Chunk, scale: float | None, bias: DistanceBias | None
    ) -> Heads:
        if chunk.fresh and chunk.new > 1:
            for group in self._groups:
                group.keep(*group.own(q, k, v)[1:], chunk)
            return attend(
                q, k, v, self._pattern, key_mask=chunk.mask, scale=scale, distance_bias=bias,
                seed=reading_seed(self._pattern),
            )  # fmt: skip
        found = [_of_group(group, *group.own(q, k, v), chunk, scale, group.own_table(bias)) for group in self._groups]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)


def _of_group(
    group: Group, q: Heads, k: KeyHeads, v: KeyHeads, chunk: Chunk, scale: float | None, bias: DistanceBias | None
) -> Heads:
    if chunk.new == 1 and group.pattern.hashes is None:
        return group.step(q, k, v, chunk, scale, bias)
    if chunk.even:
        out = group.extend(q, k, v, chunk.before[0], slice(None), scale, bias)
    else:
        out = torch.zeros_like(q)
        for i, (before, count) in enumerate(zip(chunk.before, chunk.counts, strict=True)):
            row, new = slice(i, i + 1), slice(0, count)
            if count:
                at = (row, slice(None), new)
                out[at] = group.extend(q[at], k[at], v[at], before, row, scale, bias)
    group.keep(k, v, chunk)
    return out


def _is_run(pattern: Pattern, places: Int[Tensor, "n"], before: int) -> bool:
    """Whether indices can stand for positions: no token since the first is missing, and blocks begin where they did."""
    first = before - len(places)
    if len(places) and int(places[0]) != first:
        return False
    return first == 0 or (pattern.period is not None and first % pattern.period == 0)


def _read(kept: Tensor, span: Span) -> Tensor:
    if span.index is None:
        return kept[:, :, span.start : span.start + span.count]
    if span.index.dim() == 1:
        return kept.index_select(2, span.index)
    rows = torch.arange(len(kept), device=kept.device)
    return kept[rows[:, None], :, span.index].transpose(1, 2)


def _ordered(x: Tensor, order: Int[Tensor, "batch new"]) -> Tensor:
    """The tokens of [batch, heads, new, size] in another order."""
    return x.gather(2, order[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
