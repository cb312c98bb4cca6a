"""Attention in linear memory: the pieces of a pattern, tile by tile, as one differentiable operator.

The operator saves q, k, v, the final output and the final log-sum-exp; the backward pass runs each piece's backward
with them (Liu et al. 2023, ring attention). torch.compile sees it as one opaque node.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.groups import group_backward, group_forward
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.pieces import HeadGroup, compile_pattern
from gossamer.kernels.sequence import Gradients, Sequence
from gossamer.kernels.tile_attention import NOTHING_SEEN, SKIPPED, Rows, wide
from gossamer.patterns import Pattern, pattern_from_dict

__all__ = ["blocked"]

PER_TOKEN = ("key_mask", "q_segments", "k_segments", "q_positions", "k_positions", "q_flags", "k_flags")
EXTRAS = (*PER_TOKEN, "seed")
"""The optional tensors; the operators take a list of those that are given, and their names."""

ORDINARY = 1e4
"""Padded keys and values beyond it are replaced: they could lift a masked score back up, or make it NaN."""


def blocked(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output [batch, heads, queries, size] and log-sum-exp [batch, heads, queries] of the whole pattern."""
    inputs = inputs.with_repeated_heads()
    extras = {name: x for name in EXTRAS if (x := getattr(inputs, name)) is not None}
    settings = (",".join(extras), _name(inputs.pattern), inputs.query_start, inputs.scale, inputs.dropout)
    out, lse = _attention(inputs.q, inputs.k, inputs.v, list(extras.values()), *settings)
    return out, lse


@torch.compiler.assume_constant_result
def _name(pattern: Pattern) -> str:
    """The pattern as an operator can take it. While compiling it is read once, and guarded by the pattern itself."""
    return _json(pattern)


@lru_cache(maxsize=256)
def _json(pattern: Pattern) -> str:
    return json.dumps(pattern.to_dict())


@lru_cache(maxsize=256)
def _pattern(name: str) -> Pattern:
    return pattern_from_dict(json.loads(name))


@torch.library.custom_op("gossamer::blocked_attention", mutates_args=())
def _attention(
    q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
    names: str, pattern: str, query_start: int, scale: float, dropout: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    with autocast_off(q):
        return _forward(_inputs(q, k, v, extras, names, pattern, query_start, scale, dropout))


@torch.library.custom_op("gossamer::blocked_attention_backward", mutates_args=())
def _attention_backward(
    grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor,
    q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
    names: str, pattern: str, query_start: int, scale: float, dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    rows = Rows(out=out, lse=lse, grad_out=grad_out, grad_lse=grad_lse)
    with autocast_off(q):
        return _backward(_inputs(q, k, v, extras, names, pattern, query_start, scale, dropout), rows)


def _inputs(
    q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
    names: str, pattern: str, query_start: int, scale: float, dropout: float,
) -> Inputs:  # fmt: skip
    given: dict[str, Any] = dict(zip(names.split(",") if names else (), extras, strict=True))
    return Inputs(
        q=q, k=k, v=v, pattern=_pattern(pattern), query_start=query_start, scale=scale, dropout=dropout, **given
    )


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


def _forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    out, lse = _empty_outputs(inputs.q)
    for b, heads, group, sequence in _work(inputs):
        group_forward(sequence, group, out[b, heads], lse[b, heads])
    empty = lse < NOTHING_SEEN
    if empty.any():
        out.masked_fill_(empty[..., None], 0)
        lse.masked_fill_(empty, float("-inf"))
    return out, lse


def _backward(inputs: Inputs, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    dtype = wide(inputs.q)
    grads = [torch.zeros(x.shape, dtype=dtype, device=x.device) for x in (inputs.q, inputs.k, inputs.v)]
    rows = replace(rows, lse=rows.lse.masked_fill(rows.lse.isneginf(), SKIPPED))
    for b, heads, group, sequence in _work(inputs):
        into = Gradients(*(x[b, heads] for x in grads))
        group_backward(sequence, group, rows.at((b, heads)).map(lambda x: _last_contiguous(x.to(dtype))), into)
    grad_q, grad_k, grad_v = (x.to(inputs.q.dtype) for x in grads)
    return grad_q, grad_k, grad_v


def _empty_outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    """Uninitialised output and log-sum-exp; the output lies as layers want it, [batch, queries, heads, size]."""
    batch, heads, queries, size = q.shape
    out = q.new_empty(batch, queries, heads, size).transpose(1, 2)
    return out, q.new_empty(batch, heads, queries, dtype=wide(q))


def _work(inputs: Inputs) -> Iterator[tuple[int, slice, HeadGroup, Sequence]]:
    """Each batch element by each group of heads: where it lies in the tensors, and what to compute.

    Half precision is computed in float32: what several pieces and tiles add up would else be rounded by each of them;
    and on CPUs without matrix units torch's fused attention is faster in float32 (10 to 20% forward, 80% backward).
    """
    inputs = _without_extreme_padding(inputs)
    groups = compile_pattern(inputs.pattern, inputs.q.shape[1])
    for b in range(inputs.q.shape[0]):
        tokens: dict[str, Any] = {name: None if (x := getattr(inputs, name)) is None else x[b] for name in PER_TOKEN}
        if tokens["key_mask"] is not None and tokens["key_mask"].all():
            tokens["key_mask"] = None
        for group in groups:
            heads = slice(group.start, group.stop)
            yield b, heads, group, _sequence(inputs, b, heads, tokens)


def _sequence(inputs: Inputs, b: int, heads: slice, tokens: dict[str, Any]) -> Sequence:
    q, k, v = (_last_contiguous(x[b, heads].to(wide(x))) for x in (inputs.q, inputs.k, inputs.v))
    return Sequence(
        q=q, k=k, v=v, batch=b, first_head=heads.start, scale=inputs.scale, query_start=inputs.query_start,
        dropout=inputs.dropout, seed=inputs.seed, **tokens,
        q_index=torch.arange(inputs.queries, device=q.device) if inputs.dropout else None,
        k_index=torch.arange(inputs.keys, device=q.device) if inputs.dropout else None,
    )  # fmt: skip


def _without_extreme_padding(inputs: Inputs) -> Inputs:
    """Padded keys are masked by adding to their scores, which NaN, infinity and very large numbers would survive."""
    if inputs.key_mask is None:
        return inputs
    padding = ~inputs.key_mask
    if all((x.transpose(1, 2)[padding].abs() < ORDINARY).all() for x in (inputs.k, inputs.v)):
        return inputs
    k, v = (x.masked_fill(padding[:, None, :, None], 0) for x in (inputs.k, inputs.v))
    return replace(inputs, k=k, v=v)


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
