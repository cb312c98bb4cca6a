"""Attention weights on demand, from the saved log-sum-exp: chosen rows, and the keys that count most to a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, quote
from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.distance_bias import TableByDistance
from gossamer.kernels.inputs import Inputs, TensorOrPair, make_inputs
from gossamer.kernels.once import refusing
from gossamer.kernels.precision import wide
from gossamer.kernels.rings import has_ring
from gossamer.kernels.storage import check_storage
from gossamer.kernels.torch_state import in_transform
from gossamer.kernels.weights.gradients import add_rows_gradients, add_top_keys_gradients
from gossamer.kernels.weights.plain import plain_rows
from gossamer.kernels.weights.row_sums import NOTHING, RowSum, to_weights
from gossamer.kernels.weights.walk import walk
from gossamer.patterns import Pattern

__all__ = ["Rows", "TopKeys", "attention_rows", "check_count", "choose_rows", "refuse_unshown", "top_keys"]

Queries = Float[Tensor, "batch heads queries size"]
Keys = Float[Tensor, "batch key_heads keys size"]
KeyFlags = Bool[Tensor, "batch keys"]
Lse = Float[Tensor, "batch heads queries"]
Rows = Sequence[int] | Int[Tensor, "rows"] | Int[Tensor, "batch rows"]


@dataclass(frozen=True, kw_only=True)
class TopKeys:
    """The largest weights of each query, falling, and which keys they are of; 0 and -1 where it sees fewer keys."""

    weights: Float[Tensor, "batch heads rows count"]
    keys: Int[Tensor, "batch heads rows count"]


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
    distance_bias: TableByDistance | None = None,
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

    Returns [batch, heads, rows, keys] in float32 (float64 for float64), differentiable in q and k, once: an `lse` that
    is given stands for theirs, and gets no gradient itself. Under the transforms of torch.func all is constant. A key
    that is not seen has weight 0, a query that sees nothing a row of zeros; other rows sum to 1. Dropout is never
    applied to weights that are shown. Beside the result, 2 times a text's part of it and some 20 MiB
    (`walk.BLOCK_SCORES`; float64: twice that) are held; in the backward pass, too, beside the gradients. With states of
    distances, which gradients reach as well, weights that learn are made of all pairs at once.

    Raises InputError for what `attend` refuses, for rows that there are not, and for an lse of another shape.
    Source: Vaswani et al. 2017, section 3.2.1; weights from the log-sum-exp: Dao et al. 2022, FlashAttention, 3.1.
    """
    refuse_unshown(pattern)
    inputs = make_inputs(
        q, k, k, pattern, key_mask=key_mask, segments=segments, positions=positions, global_mask=global_mask,
        query_start=query_start, bias=bias, distance_bias=distance_bias, scale=scale,
    )  # fmt: skip
    chosen = choose_rows(rows, inputs.q.shape[0], inputs.num_queries, inputs.q.device)
    _check_lse(lse, inputs)
    if _learns(inputs) and _meets_states(inputs):
        return plain_rows(inputs, chosen)
    if _learns(inputs):
        return _Rows.apply(inputs.q, inputs.k, inputs, chosen, lse)
    with torch.no_grad():
        return _rows(inputs, chosen, lse)


def refuse_unshown(pattern: Pattern) -> None:
    """InputError for a hashed pattern: its weights are those of every round, and the buckets of a call are gone.

    And for a ring, around which a key may count twice.
    """
    if has_ring(pattern):
        raise InputError(f"attention weights of '{pattern}' are not shown: around a ring keys may count twice")
    if pattern.hashes is not None:
        raise InputError(f"attention weights of '{pattern}' are not shown yet: they depend on the buckets of each call")


def _rows(inputs: Inputs, chosen: Tensor, lse: Tensor | None) -> Tensor:
    batch, heads = inputs.q.shape[:2]
    found = inputs.q.new_full((batch, heads, chosen.shape[1], inputs.num_keys), NOTHING, dtype=wide(inputs.q))
    with autocast_off(inputs.q):
        for i in range(batch):
            for block in walk(inputs, i, chosen[i]):
                _write_scores(found[i, block.heads], block.rows, block.keys, block.scores)
            to_weights(found[i], RowSum.of_scores(found[i]) if lse is None else RowSum.of_lse(lse[i][:, chosen[i]]))
    return found


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
    distance_bias: TableByDistance | None = None,
    scale: float | None = None,
    lse: Lse | None = None,
) -> TopKeys:
    """The `count` keys with the largest attention weights, for every query or for chosen `rows`.

    Arguments and errors as for `attention_rows`. Returns weights and key indices [batch, heads, rows, count]:
    weights fall, equal scores stand in the order of their keys, and where a query sees fewer keys, weight 0 and key -1
    follow. Weights are computed for the pairs that are shown alone, without dropout; without `lse` all visible pairs
    are summed up in the same pass. Weights have gradients like those of `attention_rows`: the backward pass walks over
    all visible pairs once more, in the same memory.

    Work grows with the visible pairs, memory with the result: beside it, some 20 MiB (`walk.BLOCK_SCORES`; float64:
    twice that) and 60 bytes for each of `count` places, `walk.CHUNK` queries and heads, whatever the length.
    """
    refuse_unshown(pattern)
    inputs = make_inputs(
        q, k, k, pattern, key_mask=key_mask, segments=segments, positions=positions, global_mask=global_mask,
        query_start=query_start, bias=bias, distance_bias=distance_bias, scale=scale,
    )  # fmt: skip
    check_count(count)
    chosen = choose_rows(rows, inputs.q.shape[0], inputs.num_queries, inputs.q.device)
    _check_lse(lse, inputs)
    if _learns(inputs) and _meets_states(inputs):
        with torch.no_grad():
            keys = _top(inputs, chosen, count, lse)[0].keys
        weights = plain_rows(inputs, chosen).gather(-1, keys.clamp(min=0)).masked_fill(keys < 0, 0)
        return TopKeys(weights=weights, keys=keys)
    if _learns(inputs):
        weights, keys = _Top.apply(inputs.q, inputs.k, inputs, chosen, count, lse)
        return TopKeys(weights=weights, keys=keys)
    with torch.no_grad():
        return _top(inputs, chosen, count, lse)[0]


def _top(inputs: Inputs, chosen: Tensor, count: int, lse: Tensor | None) -> tuple[TopKeys, list[RowSum]]:
    """Also the sums of each text's rows."""
    batch, heads = inputs.q.shape[:2]
    shape, totals = (batch, heads, chosen.shape[1], count), []
    scores = inputs.q.new_full(shape, NOTHING, dtype=wide(inputs.q))
    keys = torch.full(shape, -1, dtype=torch.int64, device=inputs.q.device)
    with autocast_off(inputs.q):
        for i in range(batch):
            total = _collect(inputs, i, chosen[i], scores[i], keys[i], summing=lse is None)
            totals.append(total if lse is None else RowSum.of_lse(lse[i][:, chosen[i]]))
            to_weights(scores[i], totals[i])
    return TopKeys(weights=scores, keys=keys), totals


def _learns(inputs: Inputs) -> bool:
    return torch.is_grad_enabled() and (inputs.q.requires_grad or inputs.k.requires_grad) and not in_transform()


def _meets_states(inputs: Inputs) -> bool:
    """Whether scores are made of more than q, k and numbers: products of either with states of distances."""
    return inputs.distance_bias is not None and inputs.distance_bias.reads_states


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, inputs: Inputs, chosen: Tensor, lse: Tensor | None) -> Tensor:
        weights = _rows(inputs, chosen, lse)
        ctx.save_for_backward(q, k, weights)
        ctx.inputs, ctx.chosen = inputs, chosen
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, weights = ctx.saved_tensors
        inputs = replace(ctx.inputs, q=q, k=k)

        def add(i: int, grad_q: Tensor, grad_k: Tensor) -> None:
            add_rows_gradients(inputs, i, ctx.chosen[i], weights[i], grad[i], grad_q, grad_k)

        return (*_gradients(inputs, add), None, None, None)


class _Top(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, inputs: Inputs, chosen: Tensor, count: int, lse: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        found, ctx.totals = _top(inputs, chosen, count, lse)
        ctx.save_for_backward(q, k, found.weights, found.keys)
        ctx.mark_non_differentiable(found.keys)
        ctx.inputs, ctx.chosen = inputs, chosen
        return found.weights, found.keys

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        q, k, weights, keys = ctx.saved_tensors
        inputs = replace(ctx.inputs, q=q, k=k)

        def add(i: int, grad_q: Tensor, grad_k: Tensor) -> None:
            shown = (weights[i], keys[i], grad[i])
            add_top_keys_gradients(inputs, i, ctx.chosen[i], ctx.totals[i], *shown, grad_q, grad_k)

        return (*_gradients(inputs, add), None, None, None, None)


def _gradients(inputs: Inputs, add: Callable[[int, Tensor, Tensor], None]) -> tuple[Tensor, Tensor]:
    """Of q and k, as `add(text, gradient of q, gradient of k)` sums them up; a second derivative is refused."""
    with torch.no_grad(), autocast_off(inputs.q):
        grads = [torch.zeros_like(x, dtype=wide(x)) for x in (inputs.q, inputs.k)]
        for i in range(inputs.q.shape[0]):
            add(i, grads[0][i], grads[1][i])
        grad_q, grad_k = (grad.to(inputs.q.dtype) for grad in grads)
    if torch.is_grad_enabled():
        words = "attention weights on demand have no second derivative; compute them from q and k by plain operations"
        return refusing(grad_q.requires_grad_(), words), refusing(grad_k.requires_grad_(), words)
    return grad_q, grad_k


def _collect(inputs: Inputs, batch: int, chosen: Tensor, scores: Tensor, keys: Tensor, summing: bool) -> RowSum:
    """Fill in the best scores and keys of one text, [heads, rows, count]; gives the sums of all where asked for."""
    total = RowSum.of_lse(scores.new_full(scores.shape[:2], NOTHING))
    for block in walk(inputs, batch, chosen):
        found, at = _best(block.scores, scores.shape[-1])
        old, old_keys = scores[block.heads][:, block.rows], keys[block.heads][:, block.rows]
        best, where = _ranked(torch.cat([old, found], -1), torch.cat([old_keys, block.keys[at]], -1))
        scores[block.heads, block.rows] = best[..., : scores.shape[-1]]
        keys[block.heads, block.rows] = where[..., : scores.shape[-1]]
        if summing:
            total.add(block.heads, block.rows, RowSum.of_scores(block.scores))
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


def check_count(count: int) -> None:
    """Refuse what is no number of keys."""
    require_whole("count", count, of="keys")


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
