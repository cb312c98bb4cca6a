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
from gossamer.patterns import Hashes

if TYPE_CHECKING:
    from gossamer.kernels.inputs import Inputs
    from gossamer.kernels.token_values import TokenValues

__all__ = [
    "Buckets",
    "alone",
    "make_buckets",
    "meeting_coordinates",
    "recorded_buckets",
    "replayed_buckets",
    "times_met",
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
    if (replay := _REPLAY.get()) is not None:
        return next(replay)
    if hashes.chunk is None:
        found = hashes.hashed(q, seed), hashes.hashed(_for_heads(k, heads), seed)
    else:
        of_tokens = hashes.hashed(_for_heads(k, heads), seed)
        found = of_tokens[..., own], of_tokens
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
        return given[..., own].long(), given.long()
    if hashes.chunk is not None or not isinstance(given, tuple) or len(given) != 2:
        pair = "" if hashes.chunk is not None else ", or a (query, key) pair of them"
        raise InputError(f"buckets is {quote(given)}; it must be integers [batch, heads, rounds, keys]{pair}")
    for name, one, length in (("queries", given[0], queries), ("keys", given[1], keys)):
        _check(one, f"buckets of the {name}", (batch, heads, hashes.rounds, length), q)
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
        return of_tokens[..., start : start + of_queries.shape[-1]], of_tokens
    segments = None
    if queries.segments is not None and keys.segments is not None:
        segments = torch.cat([queries.segments.long(), keys.segments.long()], 1)[:, None]
    if real is not None:
        real = torch.nn.functional.pad(real, (of_queries.shape[-1], 0), value=True)
    together = hashes.coordinates(torch.cat([of_queries, of_keys], -1), real, segments)
    found = together.split([of_queries.shape[-1], of_keys.shape[-1]], -1)
    return found[0], found[1]


def times_met(inputs: Inputs, hashes: Hashes) -> Int[Tensor, "batch heads queries keys"]:
    """How often each query counts each key, never itself: the definition."""
    assert inputs.buckets is not None
    places = meeting_coordinates(hashes, inputs.buckets, inputs.queries, inputs.keys, inputs.query_start)
    met = hashes.meetings(*places, inputs.num_keys)
    at = torch.arange(inputs.num_queries, device=met.device)[:, None] + inputs.query_start
    itself = at == torch.arange(inputs.num_keys, device=met.device)
    return (met if hashes.released else met.clamp(max=1)).masked_fill(itself, 0)


def alone(inputs: Inputs, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """What a token gets that sees nothing but itself: its own value, and its own score. Differentiable.

    As released, nearly its own value: see `_share_of_itself`.
    """
    hashes = inputs.pattern.hashes
    assert hashes is not None
    start, queries, keys = inputs.query_start, inputs.num_queries, inputs.num_keys
    inputs = inputs.with_repeated_heads()
    at = torch.arange(queries, device=lse.device) + start
    is_key = ((at >= 0) & (at < keys))[None]
    if keys == 0:
        return out, lse
    at = at.clamp(0, keys - 1)
    if inputs.keys.real is not None:
        is_key = is_key & inputs.keys.real[:, at]
    if inputs.queries.segments is not None and inputs.keys.segments is not None:
        is_key = is_key & (inputs.queries.segments == inputs.keys.segments[:, at])
    itself = (lse == float("-inf")) & is_key[:, None]
    q, k, v = (x.masked_fill(~itself[..., None], 0) for x in (inputs.q, inputs.k[:, :, at], inputs.v[:, :, at]))
    if hashes.released and not torch.compiler.is_compiling():
        v = v * _share_of_itself(inputs, hashes, itself).to(v.dtype)[..., None]
    score = (q.to(lse.dtype) * k.to(lse.dtype)).sum(-1) * inputs.scale
    return torch.where(itself[..., None], v, out), torch.where(itself, score, lse)


SELF_SCORE = -1e5
"""What the released code gives a token as its score of itself."""


@torch.no_grad()
def _share_of_itself(
    inputs: Inputs, hashes: Hashes, itself: Bool[Tensor, "batch heads queries"]
) -> Float[Tensor, "batch heads queries"]:
    """How much of their own value those tokens get: 1, but for roundings of the released code.

    There every meeting with itself has the score -100,000, whose log-sum-exp over m meetings, and then over rounds,
    float32 rounds to a 128th: from two rounds on, weights that should sum to 1 miss it by up to 0.4%. Here they do
    so in every dtype.
    """
    share = torch.ones(itself.shape, device=itself.device)
    rows = itself.nonzero(as_tuple=True)
    if not len(rows[0]):
        return share
    assert inputs.buckets is not None
    _, keys = meeting_coordinates(hashes, inputs.buckets, inputs.queries, inputs.keys, inputs.query_start)
    places = keys[rows[0], rows[1], :, rows[2] + inputs.query_start]
    # [rows, rounds, 1]: a query of its own for each, among the keys of all rounds, itself alone.
    meetings = hashes.meetings_by_round(places[..., None], places[..., None], inputs.num_keys)[..., 0, 0]
    scores = torch.full_like(meetings, SELF_SCORE, dtype=torch.float32)
    of_round = scores + meetings.float().log()
    weights = meetings * (scores - of_round).exp() * (of_round - of_round.logsumexp(-1, keepdim=True)).exp()
    share[rows] = weights.sum(-1)
    return share
