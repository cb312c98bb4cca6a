"""Hashed attention in plain differentiable operations: tokens sorted by bucket, chunk by chunk, round by round."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from gossamer.kernels.backends.blocked.tile_attention import MASKED, NOTHING_SEEN
from gossamer.kernels.dropout import keep_mask
from gossamer.kernels.hashing import alone, meeting_coordinates, why_not_own
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.precision import wide
from gossamer.patterns import Hashes

__all__ = ["hashed", "why_not_hashed"]

Result = tuple[Float[Tensor, "batch heads length size"], Float[Tensor, "batch heads length"]]


def why_not_hashed(inputs: Inputs) -> str | None:
    """Why this hashed call has no chunks to go by, or None."""
    hashes = inputs.pattern.hashes
    assert hashes is not None
    if hashes.chunk is None:
        return "whole buckets are of any size; it takes chunks"
    if inputs.num_queries != inputs.num_keys:
        return "the queries are not all the tokens, which chunks hold"
    return why_not_own(inputs, positions=True)


def hashed(inputs: Inputs) -> Result:
    """Output and log-sum-exp of a pattern with chunks; its memory grows with rounds, tokens and the size of a chunk."""
    inputs = inputs.with_repeated_heads()
    hashes, dtype = inputs.pattern.hashes, inputs.q.dtype
    assert hashes is not None
    assert inputs.buckets is not None
    q, k, v = (x.to(wide(x)) for x in (inputs.q, inputs.k, inputs.v))
    if inputs.keys.real is not None:
        padding = ~inputs.keys.real[:, None, :, None]
        k, v = k.masked_fill(padding, 0), v.masked_fill(padding, 0)
    if inputs.num_keys == 0:
        return v.to(dtype), q.sum(-1)
    _, places = meeting_coordinates(hashes, inputs.buckets, inputs.queries, inputs.keys, 0)
    rounds = _Rounds.of(hashes, places)
    parts = [_round(inputs, hashes, rounds, number, q, k, v) for number in range(places.shape[2])]
    out, lse = reduce(_merged, parts)
    empty = lse < NOTHING_SEEN
    return alone(inputs, out.masked_fill(empty[..., None], 0).to(dtype), lse.masked_fill(empty, float("-inf")))


@dataclass(frozen=True, kw_only=True)
class _Rounds:
    """Tokens in the chunks of all rounds. tokens: their numbers, that of none is `length`; chunks: of one round."""

    places: Int[Tensor, "batch heads rounds length"]
    tokens: Int[Tensor, "batch heads all_chunks chunk"]
    rank: Int[Tensor, "batch heads rounds length"]
    chunks: int

    @classmethod
    def of(cls, hashes: Hashes, places: Tensor) -> _Rounds:
        length = places.shape[3]
        chunks, size = hashes.chunks_of(length), hashes.chunk_of(length)
        order = places.argsort(dim=-1, stable=True)
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(length, device=order.device).expand_as(order))
        tokens = pad(order, (0, chunks * size - length), value=length).flatten(2, 3).unflatten(2, (-1, size))
        return cls(places=places, tokens=tokens, rank=rank, chunks=chunks)

    def near(self, hashes: Hashes, number: int) -> Int[Tensor, "chunks near"]:
        """The chunks that each chunk of a round looks into, among those of all rounds; -1 for one that is not there."""
        own = torch.arange(self.chunks, device=self.tokens.device)[:, None] + number * self.chunks
        if hashes.is_whole(self.places.shape[3]):
            return own
        # Farther than all chunks there is none, but around a ring.
        low, high = hashes.low, hashes.high
        if not hashes.released:
            low, high = max(low, 1 - self.chunks), min(high, self.chunks - 1)
        found = own + torch.arange(low, high + 1, device=own.device)
        if hashes.released:
            return found % self.tokens.shape[2]
        return torch.where(found // self.chunks == number, found, -1)


def _round(inputs: Inputs, hashes: Hashes, rounds: _Rounds, number: int, q: Tensor, k: Tensor, v: Tensor) -> Result:
    """What one round gives, in the order of the tokens."""
    chunks = slice(number * rounds.chunks, (number + 1) * rounds.chunks)
    of_queries = rounds.tokens[:, :, chunks]
    near = rounds.near(hashes, number)
    of_keys = rounds.tokens[:, :, near]
    of_keys = of_keys.masked_fill((near < 0)[:, :, None], q.shape[2]).flatten(3, 4)
    scores = _rows(q, of_queries) @ _rows(k, of_keys).mT * inputs.scale
    seen = _seen(inputs, hashes, rounds, number, of_queries, of_keys)
    scores = scores.masked_fill(~seen, MASKED)
    lse = scores.logsumexp(-1)
    weights = (scores - lse[..., None]).exp()
    if inputs.dropout and inputs.seed is not None:
        batch, heads = (torch.arange(size, device=q.device) for size in q.shape[:2])
        keep = keep_mask(
            inputs.dropout, inputs.seed, batch[:, None, None, None, None], heads[:, None, None, None],
            of_queries[..., :, None], of_keys[..., None, :],
        )  # fmt: skip
        weights = weights * keep / (1 - inputs.dropout)
    out = weights @ _rows(v, of_keys)
    rank = rounds.rank[:, :, number]
    return (
        out.flatten(2, 3).gather(2, rank[..., None].expand(*rank.shape, v.shape[3])),
        lse.flatten(2, 3).gather(2, rank),
    )


def _seen(
    inputs: Inputs, hashes: Hashes, rounds: _Rounds, number: int, of_queries: Tensor, of_keys: Tensor
) -> Bool[Tensor, "batch heads chunks chunk keys"]:
    """Which keys of its chunks a query sees in this round."""
    length = inputs.num_keys
    rows, columns = of_queries[..., :, None], of_keys[..., None, :]
    seen = columns < length
    if not hashes.itself:
        seen = seen & (rows != columns)

    def of_both(values: Tensor) -> tuple[Tensor, Tensor]:
        values = values if values.dim() == 3 else values[:, None].expand(-1, of_queries.shape[1], -1)
        return _values(values, of_queries)[..., :, None], _values(values, of_keys)[..., None, :]

    if inputs.keys.real is not None:
        seen = seen & of_both(inputs.keys.real.expand(of_queries.shape[0], -1))[1]
    if inputs.keys.segments is not None:
        queries, keys = of_both(inputs.keys.segments)
        seen = seen & (queries == keys)
        if hashes.released and inputs.keys.real is not None:
            # There padding lies behind all documents, and meets none of them.
            seen = seen & of_both(inputs.keys.real.expand(of_queries.shape[0], -1))[0]
    if hashes.causal:
        at = inputs.read_positions[1].expand(of_queries.shape[0], -1)
        queries, keys = of_both(at)
        seen = seen & (keys <= queries)
    if not hashes.released:
        for one in range(number + 1):
            queries, keys = of_both(rounds.places[:, :, one])
            meets = (keys - queries >= hashes.low) & (keys - queries <= hashes.high)
            seen = seen & (meets if one == number else ~meets)
    return seen


def _rows(x: Tensor, tokens: Tensor) -> Tensor:
    """Rows of x [batch, heads, length, size] by number; zeros where there is no token."""
    at = tokens.flatten(2)[..., None].expand(-1, -1, -1, x.shape[3])
    return pad(x, (0, 0, 0, 1)).gather(2, at).unflatten(2, tokens.shape[2:])


def _values(x: Tensor, tokens: Tensor) -> Tensor:
    """The same of x [batch, heads, length]."""
    return pad(x, (0, 1)).gather(2, tokens.flatten(2)).unflatten(2, tokens.shape[2:])


def _merged(a: Result, b: Result) -> Result:
    total = torch.logaddexp(a[1], b[1])
    return a[0] * (a[1] - total).exp()[..., None] + b[0] * (b[1] - total).exp()[..., None], total
