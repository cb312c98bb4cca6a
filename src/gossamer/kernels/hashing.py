"""Buckets of queries and keys, the coordinates by which they meet, and the token that sees nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.dropout import keep_mask
from gossamer.patterns import Hashes, Pattern

if TYPE_CHECKING:
    from gossamer.kernels.inputs import Inputs
    from gossamer.kernels.token_values import TokenValues

__all__ = [
    "Buckets",
    "alone",
    "make_buckets",
    "meeting_coordinates",
    "no_buckets",
    "recorded_buckets",
    "replayed_buckets",
    "times_met",
    "why_not_own",
]

Buckets = tuple[Int[Tensor, "batch heads rounds queries"], Int[Tensor, "batch heads rounds keys"]]

_RECORD: ContextVar[list[Buckets] | None] = ContextVar("_RECORD", default=None)
_REPLAY: ContextVar[Iterator[Buckets] | None] = ContextVar("_REPLAY", default=None)


@contextmanager
def recorded_buckets() -> Iterator[list[Buckets]]:
    """A list of the buckets that are hashed meanwhile: of states that will be rebuilt, and may differ by a rounding."""
    token = _RECORD.set([])
    try:
        yield cast(list[Buckets], _RECORD.get())
    finally:
        _RECORD.reset(token)


@contextmanager
def replayed_buckets(buckets: list[Buckets]) -> Iterator[None]:
    """Meanwhile these are taken, in their order, in place of hashed ones."""
    token = _REPLAY.set(iter(buckets) if buckets else None)
    try:
        yield
    finally:
        _REPLAY.reset(token)


def make_buckets(
    hashes: Hashes, q: Tensor, k: Tensor, query_start: int, seed: int, given: Tensor | Buckets | None
) -> Buckets:
    """The buckets of queries and keys, those that are given or hashed ones. Raises InputError for what does not fit.

    With chunks a token has one bucket, its key's, which points as its query does where both are shared.
    """
    heads, queries, keys = q.shape[1], q.shape[2], k.shape[2]
    own = slice(query_start, query_start + queries)
    if hashes.chunk is not None and (query_start < 0 or own.stop > keys):
        raise InputError(
            f"the pattern is hashed in chunks, and the queries, {queries} from {query_start} on, are not all among the "
            f"{keys} keys, with which they are sorted; give keys for them, or a pattern of whole buckets (chunk=None)"
        )
    if given is not None:
        return _given(hashes, q, keys, own, given)
    if torch.compiler.is_exporting():
        raise InputError(
            "a hashed pattern draws rotations, which no exported program can: give buckets, or leave it out"
        )
    if (replay := _REPLAY.get()) is not None:
        return next(replay)
    with autocast_off(q):
        of_keys = hashes.hashed(_for_heads(k, heads), seed)
        found = (hashes.hashed(q, seed) if hashes.chunk is None else of_keys[..., own], of_keys)
    if (record := _RECORD.get()) is not None:
        record.append(found)
    return found


def _for_heads(k: Tensor, heads: int) -> Tensor:
    return k if k.shape[1] == heads else k.repeat_interleave(heads // k.shape[1], 1)


def _given(hashes: Hashes, q: Tensor, keys: int, own: slice, given: Tensor | Buckets) -> Buckets:
    batch, heads, queries, _ = q.shape
    if isinstance(given, Tensor):
        _check(given, "buckets", (batch, heads, hashes.rounds, keys), q)
        if own.start < 0 or own.stop > keys:
            raise InputError("buckets are one tensor, but not all queries are among the keys; give a pair of tensors")
        hashes.check(given)
        return given[..., own].long(), given.long()
    if hashes.chunk is not None or not isinstance(given, tuple) or len(given) != 2:
        pair = "" if hashes.chunk is not None else ", or a (query, key) pair of them"
        raise InputError(f"buckets is {quote(given)}; it must be integers [batch, heads, rounds, keys]{pair}")
    for name, one, length in (("queries", given[0], queries), ("keys", given[1], keys)):
        _check(one, f"buckets of the {name}", (batch, heads, hashes.rounds, length), q)
    for one in given:
        hashes.check(one)
    return given[0].long(), given[1].long()


def _check(x: object, name: str, shape: tuple[int, ...], q: Tensor) -> None:
    if not isinstance(x, Tensor) or x.dtype.is_floating_point or x.dtype == torch.bool or x.device != q.device:
        said = f"{x.dtype} on {x.device}" if isinstance(x, Tensor) else quote(x)
        raise InputError(f"{name}: {said}; it must be an integer tensor on {q.device}")
    if tuple(x.shape) != shape:
        raise InputError(f"{name} has shape {list(x.shape)}; it must be [batch, heads, rounds, length], {list(shape)}")


def meeting_coordinates(
    hashes: Hashes, buckets: Buckets, queries: TokenValues, keys: TokenValues, start: int
) -> Buckets:
    """Where queries and keys lie in every round that they are seen in (`Hashes.coordinates`)."""
    of_queries, of_keys = buckets
    real = None if keys.real is None else keys.real[:, None]
    if hashes.chunk is not None:
        segments = None if keys.segments is None else keys.segments[:, None]
        of_tokens = hashes.coordinates(of_keys, real, segments)
        count = of_queries.shape[-1]
        return of_tokens if count == of_keys.shape[-1] else of_tokens[..., start : start + count], of_tokens
    segments = None
    if queries.segments is not None and keys.segments is not None:
        segments = torch.cat([queries.segments.long(), keys.segments.long()], 1)[:, None]
    if real is not None:
        real = torch.nn.functional.pad(real, (of_queries.shape[-1], 0), value=True)
    together = hashes.coordinates(torch.cat([of_queries, of_keys], -1), real, segments, of_keys.shape[-1])
    found = together.split([of_queries.shape[-1], of_keys.shape[-1]], -1)
    return found[0], found[1]


def no_buckets(pattern: Pattern, q: Tensor, k: Tensor) -> Tensor | Buckets | None:
    """Of a hashed pattern all zeros, in the memory of one, where nobody asks for the numbers of a call."""
    hashes = pattern.hashes if isinstance(pattern, Pattern) else None
    if hashes is None or not all(isinstance(x, Tensor) and x.ndim == 4 for x in (q, k)):
        return None
    zero = torch.zeros(1, 1, 1, 1, dtype=torch.int64, device=q.device)
    keys, queries = (zero.expand(q.shape[0], q.shape[1], hashes.rounds, x.shape[2]) for x in (k, q))
    return keys if hashes.chunk is not None else (queries, keys)


def why_not_own(inputs: Inputs, *, positions: bool = False) -> str | None:
    """Why queries are not the tokens that their keys are: other documents, or other `positions`; None where they are.

    Chunks hold tokens, whose documents and positions are told once.
    """
    if inputs.pattern.hashes is None or inputs.pattern.hashes.chunk is None:
        return None
    own = slice(inputs.query_start, inputs.query_start + inputs.num_queries)
    for name in ("segments", "positions") if positions else ("segments",):
        queries, keys = getattr(inputs.queries, name), getattr(inputs.keys, name)
        if queries is not None and keys is not None and not torch.equal(queries, keys[:, own]):
            return f"{name} differ between queries and the keys that they are"
    return None


def times_met(inputs: Inputs, hashes: Hashes) -> Int[Tensor, "batch heads queries keys"]:
    """How often each query counts each key, itself only where hashes say so: the definition."""
    assert inputs.buckets is not None
    places = meeting_coordinates(hashes, inputs.buckets, inputs.queries, inputs.keys, inputs.query_start)
    met = hashes.meetings(*places, inputs.num_keys)
    at = torch.arange(inputs.num_queries, device=met.device)[:, None] + inputs.query_start
    itself = at == torch.arange(inputs.num_keys, device=met.device)
    met = met if hashes.released else met.clamp(max=1)
    return met if hashes.itself else met.masked_fill(itself, 0)


def alone(inputs: Inputs, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """What a token gets that sees nothing but itself: its own value, and its own score. Differentiable.

    As released, nearly its own value: see `_shares`.
    """
    hashes = inputs.pattern.hashes
    assert hashes is not None
    inputs = inputs.with_repeated_heads()
    batch, heads, queries = rows = _lonely(inputs, lse).nonzero(as_tuple=True)
    at = batch, heads, queries + inputs.query_start
    value = inputs.v[at]
    if hashes.released:
        value = value * _shares(inputs, hashes, at).to(value.dtype)[:, None]
    if inputs.dropout and inputs.seed is not None:
        kept = keep_mask(inputs.dropout, inputs.seed, batch, heads, queries, at[2])
        value = value * kept[:, None].to(value.dtype) / (1 - inputs.dropout)
    score = (inputs.q[rows].to(lse.dtype) * inputs.k[at].to(lse.dtype)).sum(-1) * inputs.scale
    if inputs.bias is not None:
        every = inputs.bias.expand(*inputs.q.shape[:3], inputs.num_keys)
        score = score + every[batch, heads, queries, at[2]].to(score.dtype)
    return out.index_put(rows, value), lse.index_put(rows, score)


def _lonely(inputs: Inputs, lse: Tensor) -> Bool[Tensor, "batch heads queries"]:
    """Which queries saw nothing, and are among the keys that they might see."""
    start, queries, keys = inputs.query_start, inputs.num_queries, inputs.num_keys
    at = torch.arange(queries, device=lse.device) + start
    is_key = ((at >= 0) & (at < keys))[None]
    at = at.clamp(0, max(keys - 1, 0))
    if keys and inputs.keys.real is not None:
        is_key = is_key & inputs.keys.real[:, at]
    if keys and inputs.queries.segments is not None and inputs.keys.segments is not None:
        is_key = is_key & (inputs.queries.segments == inputs.keys.segments[:, at])
    lonely = (lse == float("-inf")) & is_key[:, None]
    if keys and inputs.bias is not None:
        own = inputs.bias.expand(*inputs.q.shape[:3], keys).gather(3, at[:, None].expand(*inputs.q.shape[:3], 1))
        lonely = lonely & (own[..., 0] != float("-inf"))
    return lonely


SELF_SCORE = -1e5
"""What the released code gives a token as its score of itself."""


@torch.no_grad()
def _shares(inputs: Inputs, hashes: Hashes, tokens: tuple[Tensor, Tensor, Tensor]) -> Float[Tensor, "rows"]:
    """How much of its own value each of these tokens (text, head, key) gets: 1, but for roundings of the released code.

    There every meeting with itself has the score -100,000, whose log-sum-exp over m meetings, and then over rounds,
    float32 rounds to a 128th: from two rounds on, weights that should sum to 1 miss it by up to 0.4%. Here they do
    so in every dtype.
    """
    assert inputs.buckets is not None
    _, keys = meeting_coordinates(hashes, inputs.buckets, inputs.queries, inputs.keys, inputs.query_start)
    batch, heads, at = tokens
    places = keys[batch, heads, :, at][..., None]
    meetings = hashes.meetings_by_round(places, places, inputs.num_keys)[..., 0, 0]
    scores = torch.full_like(meetings, SELF_SCORE, dtype=torch.float32)
    of_round = scores + meetings.float().log()
    weights = meetings * (scores - of_round).exp() * (of_round - of_round.logsumexp(-1, keepdim=True)).exp()
    return weights.sum(-1)
