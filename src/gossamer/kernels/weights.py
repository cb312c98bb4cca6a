"""Attention weights on demand, from the saved log-sum-exp: chosen rows, and the keys that count most to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.inputs import Inputs, TensorOrPair, make_inputs
from gossamer.kernels.precision import wide
from gossamer.kernels.storage import check_storage
from gossamer.kernels.walk import walk
from gossamer.patterns import Pattern

__all__ = ["Rows", "TopKeys", "attention_rows", "check_count", "choose_rows", "top_keys"]

Queries = Float[Tensor, "batch heads queries size"]
Keys = Float[Tensor, "batch key_heads keys size"]
KeyFlags = Bool[Tensor, "batch keys"]
Lse = Float[Tensor, "batch heads queries"]
Rows = Sequence[int] | Int[Tensor, "rows"] | Int[Tensor, "batch rows"]

NOTHING = float("-inf")


@dataclass(frozen=True, kw_only=True)
class TopKeys:
    """The largest weights of each query, falling, and which keys they are of; 0 and -1 where it sees fewer keys."""

    weights: Float[Tensor, "batch heads rows count"]
    keys: Int[Tensor, "batch heads rows count"]


@torch.no_grad()
def attention_rows(
    q: Queries,
    k: Keys,
    pattern: Pattern,
    rows: Rows,
    *,
    key_mask: KeyFlags | None = None,
    segments: TensorOrPair | None = None,
    positions: TensorOrPair | None = None,
    global_mask: KeyFlags | None = None,
    query_start: int | Tensor = 0,
    bias: Tensor | None = None,
    scale: float | None = None,
    lse: Lse | None = None,
) -> Float[Tensor, "batch heads rows keys"]:
    """The exact attention weights of chosen queries, exp(score - lse): what `attend` gives values of these arguments.

    Args:
        q: [batch, heads, queries, head_size]; k: [batch, key heads, keys, head_size]; these and those not named here
            as for `attend`.
        rows: indices of queries, [rows], or [batch, rows] where each text has its own.
        lse: each query's log-sum-exp, [batch, heads, queries], as `attend(..., return_lse=True)` gives it; computed
            from the same scores unless given.

    Returns [batch, heads, rows, keys] in float32 (float64 for float64), detached. A key that is not seen has weight 0,
    a query that sees nothing a row of zeros; other rows sum to 1. Dropout is never applied to weights that are shown.
    Beside the result, 2 times a text's part of it and some 20 MiB (`walk.BLOCK_SCORES`; float64: twice that) are held.

    Raises InputError for what `attend` refuses, for rows that there are not, and for an lse of another shape.
    Source: Vaswani et al. 2017, section 3.2.1; weights from the log-sum-exp: Dao et al. 2022, FlashAttention, 3.1.
    """
    inputs = make_inputs(
        q, k, k, pattern, key_mask=key_mask, segments=segments, positions=positions, global_mask=global_mask,
        query_start=query_start, bias=bias, scale=scale,
    )  # fmt: skip
    chosen = choose_rows(rows, inputs.q.shape[0], inputs.queries, inputs.q.device)
    _check_lse(lse, inputs)
    batch, heads = inputs.q.shape[:2]
    found = inputs.q.new_full((batch, heads, chosen.shape[1], inputs.keys), NOTHING, dtype=wide(inputs.q))
    with autocast_off(q):
        for i in range(batch):
            for block in walk(inputs, i, chosen[i]):
                _write_scores(found[i, block.heads], block.rows, block.keys, block.scores)
            _to_weights(found[i], _sum_of(found[i]) if lse is None else _Sum.of_lse(lse[i][:, chosen[i]]))
    return found


@torch.no_grad()
def top_keys(
    q: Queries,
    k: Keys,
    pattern: Pattern,
    count: int,
    *,
    rows: Rows | None = None,
    key_mask: KeyFlags | None = None,
    segments: TensorOrPair | None = None,
    positions: TensorOrPair | None = None,
    global_mask: KeyFlags | None = None,
    query_start: int | Tensor = 0,
    bias: Tensor | None = None,
    scale: float | None = None,
    lse: Lse | None = None,
) -> TopKeys:
    """The `count` keys with the largest attention weights, for every query or for chosen `rows`.

    Arguments and errors as for `attention_rows`. Returns weights and key indices [batch, heads, rows, count], detached:
    weights fall, equal scores stand in the order of their keys, and where a query sees fewer keys, weight 0 and key -1
    follow. Weights are computed for the pairs that are shown alone, without dropout; without `lse` all visible pairs
    are summed up in the same pass.

    Work grows with the visible pairs, memory with the result: beside it, some 20 MiB (`walk.BLOCK_SCORES`; float64:
    twice that) and 60 bytes for each of `count` places, `walk.CHUNK` queries and heads, whatever the length.
    """
    inputs = make_inputs(
        q, k, k, pattern, key_mask=key_mask, segments=segments, positions=positions, global_mask=global_mask,
        query_start=query_start, bias=bias, scale=scale,
    )  # fmt: skip
    check_count(count)
    chosen = choose_rows(rows, inputs.q.shape[0], inputs.queries, inputs.q.device)
    _check_lse(lse, inputs)
    batch, heads = inputs.q.shape[:2]
    shape = (batch, heads, chosen.shape[1], count)
    scores = inputs.q.new_full(shape, NOTHING, dtype=wide(inputs.q))
    keys = torch.full(shape, -1, dtype=torch.int64, device=q.device)
    with autocast_off(q):
        for i in range(batch):
            total = _collect(inputs, i, chosen[i], scores[i], keys[i], summing=lse is None)
            _to_weights(scores[i], total if lse is None else _Sum.of_lse(lse[i][:, chosen[i]]))
    return TopKeys(weights=scores, keys=keys)


def _collect(inputs: Inputs, batch: int, chosen: Tensor, scores: Tensor, keys: Tensor, summing: bool) -> _Sum:
    """Fill in the best scores and keys of one text, [heads, rows, count]; gives the sums of all where asked for."""
    total = _Sum.of_lse(scores.new_full(scores.shape[:2], NOTHING))
    for block in walk(inputs, batch, chosen):
        found, at = _best(block.scores, scores.shape[-1])
        old, old_keys = scores[block.heads][:, block.rows], keys[block.heads][:, block.rows]
        best, where = _ranked(torch.cat([old, found], -1), torch.cat([old_keys, block.keys[at]], -1))
        scores[block.heads, block.rows] = best[..., : scores.shape[-1]]
        keys[block.heads, block.rows] = where[..., : scores.shape[-1]]
        if summing:
            total.add(block.heads, block.rows, _sum_of(block.scores))
    return total


def _best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of [heads, rows, keys] or all of them, in any order, of equal ones those that come first."""
    if scores.shape[-1] <= count:
        return scores, torch.arange(scores.shape[-1], device=scores.device).expand(scores.shape)
    found, at = scores.topk(count + 1)
    # topk takes any of equal ones: where those go on beyond the last that fits, it is asked again, in order.
    last, beyond = found[..., count - 1], found[..., count]
    tied = ((last == beyond) & (last != NOTHING)) | beyond.isnan()
    found, at = found[..., :count], at[..., :count]
    if bool(tied.any()):
        again = scores[tied].sort(dim=-1, descending=True, stable=True)
        found[tied], at[tied] = again.values[:, :count], again.indices[:, :count]
    return found, at


def _ranked(scores: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """By falling score, equal ones by rising key; of those not seen, places that hold no key (-1) come first."""
    keys, order = keys.sort(dim=-1)
    scores, by_score = scores.gather(-1, order).sort(dim=-1, descending=True, stable=True)
    return scores, keys.gather(-1, by_score)


def _write_scores(found: Tensor, rows: Tensor, keys: Tensor, scores: Tensor) -> None:
    """Into [heads, rows, keys]; a pair that another block has written is not seen in this one."""
    seen = found[:, rows[:, None], keys]
    found[:, rows[:, None], keys] = torch.where(scores == NOTHING, seen, scores)


@dataclass(frozen=True)
class _Sum:
    """Log-sum-exp of each row, [heads, rows], as peak + rest: beside a peak of -1e9 the rest would be rounded away."""

    peak: Tensor
    rest: Tensor

    @classmethod
    def of_lse(cls, lse: Tensor) -> _Sum:
        return cls(lse, torch.zeros_like(lse))

    def add(self, heads: slice, rows: Tensor, other: _Sum) -> None:
        """Take other scores of some rows in."""
        peak, rest = self.peak[heads][:, rows], self.rest[heads][:, rows]
        highest = torch.maximum(peak, other.peak)
        zero = highest.masked_fill(highest == NOTHING, 0)
        self.rest[heads, rows] = torch.logaddexp(peak - zero + rest, other.peak - zero + other.rest)
        self.peak[heads, rows] = highest


def _sum_of(scores: Tensor) -> _Sum:
    """Of [heads, rows, keys]; rows that see nothing have a peak of -inf."""
    peak = scores.amax(-1) if scores.shape[-1] else scores.new_full(scores.shape[:-1], NOTHING)
    return _Sum(peak, (scores - peak.masked_fill(peak == NOTHING, 0)[..., None]).logsumexp(-1))


def _to_weights(scores: Tensor, total: _Sum) -> None:
    """exp(score - log-sum-exp) in place, 0 for what is not seen."""
    hidden = scores == NOTHING
    scores.sub_(total.peak[..., None]).sub_(total.rest[..., None]).exp_().masked_fill_(hidden, 0)


def check_count(count: int) -> None:
    """Refuse what is no number of keys."""
    if type(count) is not int or count < 1:
        raise InputError(f"count is {quote(count)}; it must be a whole number of keys, 1 or more")


def choose_rows(rows: Rows | None, batch: int, queries: int, device: torch.device) -> Int[Tensor, "batch rows"]:
    """Indices of the chosen queries, of all for None, for each text. Raises InputError for others than there are."""
    listed = range(queries) if rows is None else rows
    if isinstance(listed, Tensor):
        check_storage("rows", listed)
    try:
        x = torch.as_tensor(listed if isinstance(listed, Tensor) else list(listed), device=device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"rows is {quote(rows)}; it must list the indices of queries") from None
    x = x.long() if x.numel() == 0 else x
    fits = x.ndim == 1 or (x.ndim == 2 and x.shape[0] == batch)
    if not fits or x.dtype == torch.bool or x.dtype.is_floating_point or x.dtype.is_complex:
        raise InputError(
            f"rows is {str(x.dtype).removeprefix('torch.')} of shape {list(x.shape)}; it must be integers, [rows] or "
            f"[batch, rows], here batch {batch}"
        )
    if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < queries:
        bad = int(x.min()) if int(x.min()) < 0 else int(x.max())
        raise InputError(f"rows holds {bad}; the queries go from 0 to {queries - 1}")
    return x.long().expand(batch, -1)


def _check_lse(lse: Tensor | None, inputs: Inputs) -> None:
    if lse is None:
        return
    wanted = list(inputs.q.shape[:3])
    if not isinstance(lse, Tensor) or list(lse.shape) != wanted or lse.dtype != wide(inputs.q):
        given = f"{lse.dtype} of shape {list(lse.shape)}" if isinstance(lse, Tensor) else quote(lse)
        raise InputError(f"lse is {given}; it must be what attend gave, {wide(inputs.q)} of shape {wanted}")
    if lse.device != inputs.q.device:
        raise InputError(f"lse is on {lse.device} and q on {inputs.q.device}; they must be on one device")
    check_storage("lse", lse)
