"""The scores of chosen queries block by block, each chunk of queries against the keys that one of them may see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.precision import bias_in, sum_of_biases, wide
from gossamer.kernels.token_values import TokenValues, taken
from gossamer.patterns import Pattern
from gossamer.patterns.checks import check_mask
from gossamer.patterns.head_groups import groups_of

__all__ = ["BLOCK_SCORES", "CHUNK", "Block", "walk"]

CHUNK = 256
"""Queries that look for their keys together."""

BLOCK_SCORES = 2**20
"""Scores, or numbers of gathered keys, that are held at once, all heads of a block together."""


@dataclass(frozen=True)
class Block:
    """Scores [heads, rows, keys] of one text, -inf where a query does not see the key, in float32 or wider.

    `rows` are places among the chosen queries, `keys` key indices in rising order. A pair is in one block at most.
    """

    heads: slice
    rows: Tensor
    keys: Tensor
    scores: Tensor


def walk(inputs: Inputs, batch: int, chosen: Tensor) -> Iterator[Block]:
    """All visible pairs of the queries `chosen` (indices, [rows]) of one text; rows that see nothing are in no block.

    A part of a pattern asks for its queries in the order in which neighbours share most keys: a dilated window or a
    column by residue, flagged queries apart from others.
    """
    text = _Text.of(inputs, batch, chosen)
    first = 0
    for pattern, heads in groups_of(inputs.pattern, inputs.q.shape[1]):
        parts = pattern.walks()
        for i, part in enumerate(parts):
            for rows in text.chunks(part):
                for keys in text.keys_of(part, rows).split(_room(inputs, len(rows))):
                    allowed = text.allowed(part, rows, keys)
                    for earlier in parts[:i]:
                        allowed &= ~text.allowed(earlier, rows, keys)
                    yield from _blocks(inputs, batch, text, slice(first, first + heads), rows, keys, allowed)
        first += heads


@dataclass(frozen=True, kw_only=True)
class _Text:
    """One text's values a token: of the chosen queries, [rows], and of all keys, [keys]."""

    chosen: Tensor
    q_positions: Tensor
    k_positions: Tensor
    queries: TokenValues
    keys: TokenValues

    @classmethod
    def of(cls, inputs: Inputs, batch: int, chosen: Tensor) -> _Text:
        q_positions, k_positions = (x.expand(inputs.q.shape[0], -1) for x in inputs.read_positions)
        return cls(
            chosen=chosen, q_positions=q_positions[batch, chosen], k_positions=k_positions[batch],
            queries=inputs.queries[batch, chosen], keys=inputs.keys[batch],
        )  # fmt: skip

    def chunks(self, part: Pattern) -> Iterator[Tensor]:
        """Places among the chosen queries, a chunk at a time."""
        order = self.q_positions.argsort(stable=True)
        if part.step > 1:
            order = order[(self.q_positions[order] % part.step).argsort(stable=True)]
        if self.queries.segments is not None:
            order = order[self.queries.segments[order].argsort(stable=True)]
        if part.sees_flags and self.queries.flags is not None:
            flagged = self.queries.flags[order]
            yield from _split(order[flagged])
            order = order[~flagged]
        yield from _split(order)

    def keys_of(self, part: Pattern, rows: Tensor) -> Tensor:
        """Indices of the keys that one of these queries may see, rising; few too many do no harm."""
        found = self._reach(part, rows)
        if self.queries.segments is not None and self.keys.segments is not None:
            found = found & torch.isin(self.keys.segments, self.queries.segments[rows])
        if self.keys.real is not None:
            found = found & self.keys.real
        return found.nonzero()[:, 0]

    def _reach(self, part: Pattern, rows: Tensor) -> Tensor:
        """Boolean [keys]. A pattern without a rule of its own is asked about every pair, which costs time alone."""
        at, keys = self.q_positions[rows], self.k_positions
        near = part.near(at, keys, taken(self.queries.flags, rows), self.keys.flags)
        if near is not None:
            if near.dtype != torch.bool or near.shape != keys.shape:
                gave = f"{near.dtype} of shape {list(near.shape)}"
                raise InputError(f"near of '{part}' gave {gave}; it must be boolean, [{len(keys)}]: [keys]")
            return near
        every = torch.arange(len(keys), device=keys.device)
        found = torch.zeros_like(keys, dtype=torch.bool)
        for few in rows.split(max(1, BLOCK_SCORES // max(1, len(keys)))):
            found |= self._by_pattern(part, few, every).any(0)
        return found

    def allowed(self, part: Pattern, rows: Tensor, keys: Tensor) -> Tensor:
        """Boolean [rows, keys]: the definition, for keys that are real."""
        seen = self._by_pattern(part, rows, keys)
        if self.queries.segments is None or self.keys.segments is None:
            return seen
        return seen & (self.queries.segments[rows][:, None] == self.keys.segments[keys])

    def _by_pattern(self, part: Pattern, rows: Tensor, keys: Tensor) -> Tensor:
        flags = taken(self.queries.flags, rows), taken(self.keys.flags, keys)
        allowed = part.allowed(self.q_positions[rows], self.k_positions[keys], *flags)
        check_mask(part, allowed, len(rows), len(keys))
        return allowed


def _room(inputs: Inputs, rows: int) -> int:
    """How many keys of one head fit into a block: neither their scores nor the keys themselves may be too many."""
    return max(1, BLOCK_SCORES // max(rows, inputs.q.shape[-1]))


def _split(order: Tensor) -> Iterator[Tensor]:
    if len(order):
        yield from order.split(CHUNK)


def _blocks(
    inputs: Inputs, batch: int, text: _Text, heads: slice, rows: Tensor, keys: Tensor, allowed: Tensor
) -> Iterator[Block]:
    """The same pairs for so many heads at a time as fit into a block."""
    if not len(keys):
        return
    step = max(1, _room(inputs, len(rows)) // len(keys))
    hidden, group = ~allowed, inputs.q.shape[1] // inputs.k.shape[1]
    for first in range(heads.start, heads.stop, step):
        some = slice(first, min(first + step, heads.stop))
        shared = torch.arange(some.start, some.stop, device=keys.device) // group
        q, k = inputs.q[batch, some][:, text.chosen[rows]], inputs.k[batch][shared[:, None], keys]
        scores = (q.to(wide(q)) @ k.to(wide(k)).mT).mul_(inputs.scale)
        added = _added(inputs, batch, some, text, rows, keys, q, k)
        if added is None:
            yield Block(some, rows, keys, scores.masked_fill_(hidden, float("-inf")))
            continue
        added = bias_in(scores.dtype, added)
        unseen = hidden | (added == float("-inf"))
        yield Block(some, rows, keys, scores.add_(added).masked_fill_(unseen, float("-inf")))


def _added(
    inputs: Inputs, batch: int, heads: slice, text: _Text, rows: Tensor, keys: Tensor, q: Tensor, k: Tensor
) -> Tensor | None:
    """Bias, and what q and k get by distance, [heads or 1, rows or 1, keys or 1]; None where there is neither."""
    queries, given = text.chosen[rows], inputs.distance_bias
    bias = None if inputs.bias is None else _bias(inputs.bias, batch, heads, queries, keys)
    if given is None:
        return bias
    q_at, k_at = text.q_positions[rows], text.k_positions[keys]
    if given.positions is not None:
        q_at, k_at = (x[batch if len(x) > 1 else 0, at] for x, at in zip(given.positions, (queries, keys), strict=True))
    by_distance = given.of_heads(heads).added(q, k, inputs.scale, q_at, k_at)
    return by_distance if bias is None else sum_of_biases(bias, by_distance)


def _bias(bias: Tensor, batch: int, heads: slice, queries: Tensor, keys: Tensor) -> Tensor:
    """[heads or 1, rows or 1, keys or 1]."""
    part = bias[batch if bias.shape[0] > 1 else 0]
    part = part[heads] if part.shape[0] > 1 else part
    part = part[:, queries] if part.shape[1] > 1 else part
    return part[:, :, keys] if part.shape[2] > 1 else part
