"""Attention in linear memory: the pieces of a pattern, tile by tile, on torch's own fused attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.kernels.backends.blocked.groups import group_backward, group_forward
from gossamer.kernels.backends.blocked.sequence import Sequence, Sums
from gossamer.kernels.backends.blocked.tile_attention import MASKED, NOTHING_SEEN, SKIPPED, Rows
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.operator import Arguments, Gradients, Operator, empty_outputs
from gossamer.kernels.pieces import HeadGroup
from gossamer.kernels.precision import bias_in, wide
from gossamer.kernels.token_values import TokenValues, taken

__all__ = ["blocked"]

ORDINARY = 1e4
"""Padded keys and values beyond it are replaced: they could lift a masked score back up, or make it NaN."""

LOWEST_BIAS = -1e28
"""Numbers of a table by distance below it are taken for it, so that only minus infinity hides a pair."""


def blocked(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output [batch, heads, queries, size of v] and log-sum-exp [batch, heads, queries] of the whole pattern."""
    return OPERATOR(inputs)


def _forward(call: Arguments) -> tuple[Tensor, Tensor]:
    call, value_size = _without_extreme_padding(_of_one_size(call)), call.v.shape[3]
    out, lse = empty_outputs(call.q, call.v)
    for b, heads, group, sequence in _work(call):
        group_forward(sequence, group, out[b, heads], lse[b, heads])
    empty = lse < NOTHING_SEEN
    if empty.any():
        out.masked_fill_(empty[..., None], 0)
        lse.masked_fill_(empty, float("-inf"))
    return _first_columns(out, value_size), lse


def _backward(
    call: Arguments, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None, table_learns: bool
) -> Gradients:
    sizes = [x.shape[3] for x in (call.q, call.k, call.v)]
    call = _without_extreme_padding(_of_one_size(call))
    out, grad_out = (_with_columns(x, call.q.shape[3]) for x in (out, grad_out))
    rows = Rows(out=out, lse=lse, grad_out=grad_out, grad_lse=grad_lse)
    dtype = wide(call.q)
    grads = [torch.zeros(x.shape, dtype=dtype, device=x.device) for x in (call.q, call.k, call.v)]
    rows = replace(rows, lse=rows.lse.masked_fill(rows.lse.isneginf(), SKIPPED))
    learning = call.table if table_learns else None
    of_table = None if learning is None else torch.zeros(learning.shape, dtype=dtype, device=learning.device)
    for b, heads, group, sequence in _work(call):
        of_q, of_k, of_v = (x[b, heads] for x in grads)
        into = Sums(of_q, of_k, of_v, taken(of_table, heads))
        group_backward(sequence, group, rows.at((b, heads)).map(lambda x: _last_contiguous(x.to(dtype))), into)
    grad_q, grad_k, grad_v = (_first_columns(x.to(call.q.dtype), size) for x, size in zip(grads, sizes, strict=True))
    return grad_q, grad_k, grad_v, None if learning is None or of_table is None else of_table.to(learning.dtype)


def _work(call: Arguments) -> Iterator[tuple[int, slice, HeadGroup, Sequence]]:
    """Each batch element by each group of heads: where it lies in the tensors, and what to compute.

    Half precision is computed in float32: what several pieces and tiles add up would else be rounded by each of them;
    and on CPUs without matrix units torch's fused attention is faster in float32 (10 to 20% forward, 80% backward).
    """
    for b in range(call.q.shape[0]):
        queries, keys = call.queries[b], call.keys[b]
        if keys.real is not None and keys.real.all():
            keys = replace(keys, real=None)
        for group in call.groups:
            heads = slice(group.start, group.stop)
            yield b, heads, group, _sequence(call, b, heads, queries, keys)


def _sequence(call: Arguments, b: int, heads: slice, queries: TokenValues, keys: TokenValues) -> Sequence:
    q, k, v = (_last_contiguous(x[b, heads].to(wide(x))) for x in (call.q, call.k, call.v))
    is_even = queries.bias_positions is None
    if call.table is not None and is_even:
        at = [torch.arange(x.shape[1], device=q.device) for x in (q, k)]
        queries, keys = replace(queries, bias_positions=at[0] + call.query_start), replace(keys, bias_positions=at[1])
    return Sequence(
        q=q, k=k, v=v, batch=b, first_head=heads.start, scale=call.scale, query_start=call.query_start,
        dropout=call.dropout, seed=call.seed, queries=queries, keys=keys,
        q_index=torch.arange(q.shape[1], device=q.device) if call.dropout else None,
        k_index=torch.arange(k.shape[1], device=q.device) if call.dropout else None,
        table=None if call.table is None else _finite(call.table[heads], wide(q)), before=call.before, is_even=is_even,
    )  # fmt: skip


def _finite(table: Tensor, dtype: torch.dtype) -> Tensor:
    """Minus infinity as tiles say it."""
    table = bias_in(dtype, table)
    return torch.where(table.isneginf(), MASKED, table.clamp(min=LOWEST_BIAS))


def _without_extreme_padding(call: Arguments) -> Arguments:
    """Padded keys are masked by adding to their scores, which NaN, infinity and very large numbers would survive."""
    if call.keys.real is None:
        return call
    padding = ~call.keys.real
    if all((x.transpose(1, 2)[padding].abs() < ORDINARY).all() for x in (call.k, call.v)):
        return call
    padding = padding[:, None, :, None]
    return replace(call, k=call.k.masked_fill(padding, 0), v=call.v.masked_fill(padding, 0))


def _of_one_size(call: Arguments) -> Arguments:
    """Torch's fused attention takes heads of one size alone: zeros more in q and k change no score, in v no number."""
    size = max(call.q.shape[3], call.v.shape[3])
    q, k, v = (_with_columns(x, size) for x in (call.q, call.k, call.v))
    return replace(call, q=q, k=k, v=v)


def _with_columns(x: Tensor, size: int) -> Tensor:
    return x if x.shape[3] == size else pad(x, (0, size - x.shape[3]))


def _first_columns(x: Tensor, size: int) -> Tensor:
    """Laid out as `empty_outputs` and gradients are, whichever `x` was."""
    return x if x.shape[3] == size else torch.empty_like(x[..., :size]).copy_(x[..., :size])


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


OPERATOR = Operator("blocked", _forward, _backward)
