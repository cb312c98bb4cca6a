"""Attention in linear memory: the pieces of a pattern, tile by tile, as one differentiable operator.

The operator saves q, k, v, the final output and the final log-sum-exp; the backward pass runs each piece's backward
with them (Liu et al. 2023, ring attention). torch.compile sees it as one opaque node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.groups import group_backward, group_forward
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.pieces import HeadGroup, compile_pattern, pieces_from_numbers, pieces_to_numbers
from gossamer.kernels.sequence import Gradients, Sequence
from gossamer.kernels.tile_attention import NOTHING_SEEN, SKIPPED, Rows, wide

__all__ = ["blocked"]

PER_TOKEN = ("key_mask", "q_segments", "k_segments", "q_positions", "k_positions", "q_flags", "k_flags")
EXTRAS = (*PER_TOKEN, "seed")
"""The optional tensors; the operators take a list of those that are given, and their names."""

ORDINARY = 1e4
"""Padded keys and values beyond it are replaced: they could lift a masked score back up, or make it NaN."""


def blocked(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output [batch, heads, queries, size] and log-sum-exp [batch, heads, queries] of the whole pattern."""
    out, lse = _attention(*operands(inputs))
    return out, lse


def operands(inputs: Inputs) -> tuple[Any, ...]:
    """The arguments of the operator."""
    inputs = inputs.with_repeated_heads()
    extras = {name: x for name in EXTRAS if (x := getattr(inputs, name)) is not None}
    pieces = pieces_to_numbers(compile_pattern(inputs.pattern, inputs.q.shape[1]))
    settings = (",".join(extras), pieces, inputs.query_start, inputs.scale, inputs.dropout)
    return (inputs.q, inputs.k, inputs.v, list(extras.values()), *settings)


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What the operators were given; `extras` by name."""

    q: Tensor
    k: Tensor
    v: Tensor
    extras: dict[str, Tensor]
    groups: tuple[HeadGroup, ...]
    query_start: int
    scale: float
    dropout: float


@torch.library.custom_op("gossamer::blocked_attention", mutates_args=())
def _attention(
    q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
    names: str, pieces: list[int], query_start: int, scale: float, dropout: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    with autocast_off(q):
        return _forward(_call(q, k, v, extras, names, pieces, query_start, scale, dropout))


@torch.library.custom_op("gossamer::blocked_attention_backward", mutates_args=())
def _attention_backward(
    grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor,
    q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
    names: str, pieces: list[int], query_start: int, scale: float, dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    rows = Rows(out=out, lse=lse, grad_out=grad_out, grad_lse=grad_lse)
    with autocast_off(q):
        return _backward(_call(q, k, v, extras, names, pieces, query_start, scale, dropout), rows)


def _call(
    q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
    names: str, pieces: list[int], query_start: int, scale: float, dropout: float,
) -> _Call:  # fmt: skip
    given = dict(zip(names.split(",") if names else (), extras, strict=True))
    k, v = _without_extreme_padding(k, v, given.get("key_mask"))
    return _Call(
        q=q, k=k, v=v, extras=given, groups=pieces_from_numbers(pieces), query_start=query_start, scale=scale,
        dropout=dropout,
    )  # fmt: skip


@_attention.register_fake
def _(q: Tensor, *rest: object) -> tuple[Tensor, Tensor]:
    return _empty_outputs(q)


@_attention_backward.register_fake
def _(
    grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, extras, *ctx.settings = inputs
    ctx.save_for_backward(*output, q, k, v, *extras)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Any, ...]:
    out, lse, q, k, v, *extras = ctx.saved_tensors
    grads: tuple[Tensor | None, ...] = (None, None, None)
    if grad_out is not None or grad_lse is not None:
        grad_out = torch.zeros_like(out) if grad_out is None else grad_out
        grads = _attention_backward(grad_out, grad_lse, out, lse, q, k, v, extras, *ctx.settings)
    return (*grads, [None for _ in extras], *(None for _ in ctx.settings))


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    pass


def _refuse_second_derivative(ctx: Any, *grads: Tensor | None) -> None:
    raise InputError("backend 'blocked' has no second derivative; use backend='reference', which has all of them")


_attention.register_autograd(_differentiate, setup_context=_save)
_attention_backward.register_autograd(_refuse_second_derivative, setup_context=_save_nothing)


def _forward(call: _Call) -> tuple[Tensor, Tensor]:
    out, lse = _empty_outputs(call.q)
    for b, heads, group, sequence in _work(call):
        group_forward(sequence, group, out[b, heads], lse[b, heads])
    empty = lse < NOTHING_SEEN
    if empty.any():
        out.masked_fill_(empty[..., None], 0)
        lse.masked_fill_(empty, float("-inf"))
    return out, lse


def _backward(call: _Call, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    dtype = wide(call.q)
    grads = [torch.zeros(x.shape, dtype=dtype, device=x.device) for x in (call.q, call.k, call.v)]
    rows = replace(rows, lse=rows.lse.masked_fill(rows.lse.isneginf(), SKIPPED))
    for b, heads, group, sequence in _work(call):
        into = Gradients(*(x[b, heads] for x in grads))
        group_backward(sequence, group, rows.at((b, heads)).map(lambda x: _last_contiguous(x.to(dtype))), into)
    grad_q, grad_k, grad_v = (x.to(call.q.dtype) for x in grads)
    return grad_q, grad_k, grad_v


def _empty_outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    """Uninitialised output and log-sum-exp; the output lies as layers want it, [batch, queries, heads, size]."""
    batch, heads, queries, size = q.shape
    out = q.new_empty(batch, queries, heads, size).transpose(1, 2)
    return out, q.new_empty(batch, heads, queries, dtype=wide(q))


def _work(call: _Call) -> Iterator[tuple[int, slice, HeadGroup, Sequence]]:
    """Each batch element by each group of heads: where it lies in the tensors, and what to compute.

    Half precision is computed in float32: what several pieces and tiles add up would else be rounded by each of them;
    and on CPUs without matrix units torch's fused attention is faster in float32 (10 to 20% forward, 80% backward).
    """
    for b in range(call.q.shape[0]):
        tokens: dict[str, Any] = {name: x[b] for name, x in call.extras.items() if name in PER_TOKEN}
        if "key_mask" in tokens and tokens["key_mask"].all():
            del tokens["key_mask"]
        for group in call.groups:
            heads = slice(group.start, group.stop)
            yield b, heads, group, _sequence(call, b, heads, tokens)


def _sequence(call: _Call, b: int, heads: slice, tokens: dict[str, Any]) -> Sequence:
    q, k, v = (_last_contiguous(x[b, heads].to(wide(x))) for x in (call.q, call.k, call.v))
    return Sequence(
        q=q, k=k, v=v, batch=b, first_head=heads.start, scale=call.scale, query_start=call.query_start,
        dropout=call.dropout, seed=call.extras.get("seed"), **tokens,
        q_index=torch.arange(q.shape[1], device=q.device) if call.dropout else None,
        k_index=torch.arange(k.shape[1], device=q.device) if call.dropout else None,
    )  # fmt: skip


def _without_extreme_padding(k: Tensor, v: Tensor, key_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Padded keys are masked by adding to their scores, which NaN, infinity and very large numbers would survive."""
    if key_mask is None:
        return k, v
    padding = ~key_mask
    if all((x.transpose(1, 2)[padding].abs() < ORDINARY).all() for x in (k, v)):
        return k, v
    padding = padding[:, None, :, None]
    return k.masked_fill(padding, 0), v.masked_fill(padding, 0)


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
