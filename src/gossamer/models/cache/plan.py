"""What one call does with a cache, worked out once for all layers of one pattern: slots to write, slots to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models.cache.layout import Layout, layouts
from gossamer.patterns import Pattern

__all__ = ["Chunk", "Plan", "Reads", "Span", "State", "Writes", "begin"]

DENSE = 2
"""Rows of several lengths read a run of slots in place, masked, while it is at most so many times what they see."""


@dataclass(frozen=True)
class Span:
    """Slots of one buffer to be read: `count` from `start` on, or those in `index`, [slots] or [batch, slots]."""

    start: int
    count: int
    index: Tensor | None = None


@dataclass(frozen=True)
class Reads:
    """What one new token a row reads: a span of each buffer, one after the other.

    `mask` [batch, 1, 1, slots] is True for what a row sees (None: all of it), `blind` [batch, 1, 1, 1] for rows that
    see nothing.
    """

    spans: tuple[Span, ...]
    mask: Tensor | None = None
    blind: Tensor | None = None


@dataclass(frozen=True)
class Writes:
    """New tokens `columns` go to `slots`: of every row, or one by one of the rows in `rows`."""

    columns: Tensor
    slots: Tensor
    rows: Tensor | None = None


@dataclass(frozen=True)
class Plan:
    """For each layout of a pattern what is written; what is read, if the call is of one token a row."""

    writes: tuple[Writes, ...]
    reads: Reads | None


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One call: `counts` real tokens for each row come after the `before` it holds; `new` columns, padding included.

    `mask` [batch, new] is True for real tokens, which then stand first in each row (None: all are real). `order`
    [batch, new] brings them there where the caller had them elsewhere.
    """

    before: tuple[int, ...]
    counts: tuple[int, ...]
    new: int
    mask: Bool[Tensor, "batch new"] | None = None
    order: Int[Tensor, "batch new"] | None = None
    plans: dict[tuple[Pattern, torch.device], Plan] = field(default_factory=dict)
    apart: dict[tuple[Pattern, torch.device], Tensor] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """Whether nothing was read before."""
        return not any(self.before)

    @property
    def even(self) -> bool:
        """Whether all rows are of one length, before and after."""
        return len(set(self.before)) == 1 and self.mask is None

    @property
    def most(self) -> int:
        """Tokens of the longest row afterwards."""
        return max(one + count for one, count in zip(self.before, self.counts, strict=True))

    def plan(self, pattern: Pattern, device: torch.device) -> Plan:
        """What to do for layers, or groups of heads, of this pattern."""
        key = (pattern, device)
        if key not in self.plans:
            found = layouts(pattern)
            writes = tuple(self._writes(one, device) for one in found)
            reads = self._reads(pattern, found, device) if self.new == 1 else None
            self.plans[key] = Plan(writes, reads)
        return self.plans[key]

    def distances(self, pattern: Pattern, device: torch.device) -> Int[Tensor, "#batch slots"]:
        """How far what one new token a row reads is from it, key less query; anything for slots that it does not see.

        Apart from `plan`: only tables by distance ask for it.
        """
        key = (pattern, device)
        if key not in self.apart:
            reads = self.plan(pattern, device).reads
            assert reads is not None
            spans = zip(layouts(pattern), reads.spans, strict=True)
            self.apart[key] = torch.cat([self._span_distances(*one, device) for one in spans], dim=1)
        return self.apart[key]

    def _span_distances(self, layout: Layout, span: Span, device: torch.device) -> Int[Tensor, "#batch slots"]:
        tokens = [one + count for one, count in zip(self.before, self.counts, strict=True)][: 1 if self.even else None]
        apart = torch.zeros(len(tokens), layout.room(self.most), dtype=torch.int64)
        for i, one in enumerate(tokens):
            positions = layout.kept(0, one)
            apart[i, layout.slots(positions)] = positions - (one - 1)
        apart = apart.to(device)
        if span.index is None:
            return apart[:, span.start : span.start + span.count]
        return apart.gather(1, span.index.expand(len(tokens), -1))

    def _writes(self, layout: Layout, device: torch.device) -> Writes:
        if self.even:
            kept = layout.kept(self.before[0], self.before[0] + self.new)
            return Writes((kept - self.before[0]).to(device), layout.slots(kept).to(device))
        kept_of = [layout.kept(one, one + count) for one, count in zip(self.before, self.counts, strict=True)]
        columns = torch.cat([kept - one for kept, one in zip(kept_of, self.before, strict=True)])
        rows = torch.arange(len(kept_of)).repeat_interleave(torch.tensor([len(one) for one in kept_of]))
        slots = layout.slots(torch.cat(kept_of))
        return Writes(columns.to(device), slots.to(device), rows.to(device))

    def _reads(self, pattern: Pattern, found: Sequence[Layout], device: torch.device) -> Reads:
        """A row without a new token reads as its last one did, or nothing; nobody looks at what it gets."""
        last = [one + count - 1 for one, count in zip(self.before, self.counts, strict=True)]
        if self.even:
            last = last[:1]
        of_position = {position: _slots(pattern, found, position) for position in set(last)}
        rows = [of_position[position] for position in last]
        spans, masks = zip(*(_span([row[i] for row in rows]) for i in range(len(found))), strict=True)
        mask = torch.cat(masks, dim=1)
        blind = ~mask.any(dim=1)
        return Reads(
            spans=tuple(_on(one, device) for one in spans),
            mask=None if bool(mask.all()) else mask[:, None, None].to(device),
            blind=blind[:, None, None, None].to(device) if bool(blind.any()) else None,
        )


def begin(
    before: tuple[int, ...], new: int, mask: Bool[Tensor, "batch new"] | None
) -> tuple[Chunk, Int[Tensor, "batch new"]]:
    """The call in which rows that hold `before` tokens get `new` more, padding included, and the tokens' positions.

    Padding stands at the position of the token before it.
    """
    held = torch.tensor(before)[:, None]
    if mask is None or bool(mask.all()):
        return Chunk(before=before, counts=(new,) * len(before), new=new), held + torch.arange(new)
    counts = mask.sum(dim=1)
    positions = (held.to(mask.device) + mask.cumsum(dim=1) - 1).clamp(min=0)
    first = torch.arange(new, device=mask.device) < counts[:, None]
    order = None if torch.equal(mask, first) else (~mask).int().argsort(dim=1, stable=True)
    chunk = Chunk(before=before, counts=tuple(counts.tolist()), new=new, mask=first, order=order)
    return chunk, positions


@dataclass
class State:
    """What a cache shares with its memories: how many tokens each row holds, and the call that is being computed.

    begun: some layer has kept tokens of that call. shifts: how many places of padding stand before each row's text,
    where those count as positions.
    """

    lengths: tuple[int, ...] | None = None
    shifts: tuple[int, ...] | None = None
    chunk: Chunk | None = None
    begun: bool = False


def _slots(pattern: Pattern, found: Sequence[Layout], position: int) -> list[Int[Tensor, "n"]]:
    """For each layout the slots that the query at `position`, itself kept by now, reads; -1 is no position."""
    left = pattern.sees(position) if position >= 0 else torch.empty(0, dtype=torch.int64)
    slots = []
    for layout in found:
        here = layout.holds(left, position + 1)
        slots.append(layout.slots(left[here]))
        left = left[~here]
    if len(left):
        raise InputError(
            f"'{pattern}' says that position {position} sees position {int(left[0])}, which its keeps does not keep"
        )
    return slots


def _span(rows: list[Int[Tensor, "n"]]) -> tuple[Span, Bool[Tensor, "rows slots"]]:
    """One span for all rows, and which of its slots each of them sees."""
    most, filled = max(map(len, rows)), [one for one in rows if len(one)]
    if not filled:
        return Span(0, 0), torch.ones(len(rows), 0, dtype=torch.bool)
    start, stop = min(int(one.min()) for one in filled), max(int(one.max()) for one in filled) + 1
    width = stop - start
    if width == most or (len(rows) > 1 and width <= DENSE * most):
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, one in enumerate(rows):
            mask[i, one - start] = True
        return Span(start, width), mask
    if len(rows) == 1:
        return Span(start, most, rows[0]), torch.ones(1, most, dtype=torch.bool)
    index = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(one) for one in rows])
    return Span(start, most, index), torch.arange(most) < lengths[:, None]


def _on(span: Span, device: torch.device) -> Span:
    return span if span.index is None else Span(span.start, span.count, span.index.to(device))
