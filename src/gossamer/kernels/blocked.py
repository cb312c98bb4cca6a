"""Attention in linear memory: the pieces of a pattern, tile by tile, as one differentiable operator.

The operator saves q, k, v, the final output and the final log-sum-exp; the backward pass runs each piece's backward
with them (Liu et al. 2023, ring attention). torch.compile sees it as one opaque node.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from gossamer.kernels.band import Sequence, band_backward, band_forward
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.pieces import Band, HeadGroup, compile_pattern
from gossamer.kernels.tile_attention import NOTHING_SEEN
from gossamer.patterns import Pattern, pattern_from_dict

__all__ = ["blocked"]

EVERYTHING = Band(low=None, high=None)
SKIPPED = 1e30
"""As a log-sum-exp in the backward pass: every probability of the row becomes 0."""


def blocked(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output [batch, heads, queries, size] and log-sum-exp [batch, heads, queries] of the whole pattern."""
    inputs = inputs.with_repeated_heads()
    return _attention(  # type: ignore[no-any-return]
        inputs.q, inputs.k, inputs.v, inputs.key_mask, inputs.q_segments, inputs.k_segments, inputs.q_positions,
        inputs.k_positions, inputs.q_flags, inputs.k_flags, inputs.seed, _name(inputs.pattern), inputs.query_start,
        inputs.scale, inputs.dropout,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _name(pattern: Pattern) -> str:
    return json.dumps(pattern.to_dict())


@lru_cache(maxsize=256)
def _pattern(name: str) -> Pattern:
    return pattern_from_dict(json.loads(name))


@torch.library.custom_op("gossamer::blocked_attention", mutates_args=())
def _attention(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None,
    q_positions: Tensor | None, k_positions: Tensor | None, q_flags: Tensor | None, k_flags: Tensor | None,
    seed: Tensor | None, pattern: str, query_start: int, scale: float, dropout: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    inputs = Inputs(
        q=q, k=k, v=v, pattern=_pattern(pattern), key_mask=key_mask, q_segments=q_segments, k_segments=k_segments,
        q_positions=q_positions, k_positions=k_positions, q_flags=q_flags, k_flags=k_flags, seed=seed,
        query_start=query_start, scale=scale, dropout=dropout,
    )  # fmt: skip
    return _forward(inputs)


@_attention.register_fake
def _(q: Tensor, *args: object) -> tuple[Tensor, Tensor]:
    return _empty_outputs(q)


def _empty_outputs(q: Tensor) -> tuple[Tensor, Tensor]:
    """Uninitialised output and log-sum-exp; the output lies in memory as [batch, queries, heads, size], as layers want it."""
    batch, heads, queries, size = q.shape
    out = q.new_empty(batch, queries, heads, size).transpose(1, 2)
    return out, q.new_empty(batch, heads, queries, dtype=_wide(q))


@torch.library.custom_op("gossamer::blocked_attention_backward", mutates_args=())
def _attention_backward(
    grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor,
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, q_segments: Tensor | None, k_segments: Tensor | None,
    q_positions: Tensor | None, k_positions: Tensor | None, q_flags: Tensor | None, k_flags: Tensor | None,
    seed: Tensor | None, pattern: str, query_start: int, scale: float, dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    inputs = Inputs(
        q=q, k=k, v=v, pattern=_pattern(pattern), key_mask=key_mask, q_segments=q_segments, k_segments=k_segments,
        q_positions=q_positions, k_positions=k_positions, q_flags=q_flags, k_flags=k_flags, seed=seed,
        query_start=query_start, scale=scale, dropout=dropout,
    )  # fmt: skip
    return _backward(inputs, grad_out, grad_lse, out, lse)


@_attention_backward.register_fake
def _(grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, *args: object
      ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))  # type: ignore[return-value]


def _save(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.pattern, ctx.query_start, ctx.scale, ctx.dropout = inputs
    ctx.save_for_backward(*output, *tensors)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad_out, grad_lse):  # type: ignore[no-untyped-def]
    out, lse, *tensors = ctx.saved_tensors
    none = (None,) * 12
    if grad_out is None and grad_lse is None:
        return (None, None, None, *none)
    if grad_out is None:
        grad_out = torch.zeros_like(out)
    settings = (ctx.pattern, ctx.query_start, ctx.scale, ctx.dropout)
    return (*_attention_backward(grad_out, grad_lse, out, lse, *tensors, *settings), *none)


_attention.register_autograd(_differentiate, setup_context=_save)


def _forward(inputs: Inputs) -> tuple[Tensor, Tensor]:
    out, lse = _empty_outputs(inputs.q)
    inputs = _without_nan_padding(inputs)
    for b in range(inputs.q.shape[0]):
        for group in compile_pattern(inputs.pattern, inputs.q.shape[1]):
            heads = slice(group.start, group.stop)
            _forward_group(_sequence(inputs, b, group), group, _flags(inputs, b), out[b, heads], lse[b, heads])
    empty = lse < NOTHING_SEEN
    if empty.any():
        out.masked_fill_(empty[..., None], 0)
        lse.masked_fill_(empty, float("-inf"))
    return out, lse


def _forward_group(
    s: Sequence, group: HeadGroup, flags: tuple[Tensor, Tensor] | None, out: Tensor, lse: Tensor
) -> None:
    flagged = flags if group.flagged else None
    if group.band is None and flagged is None:
        out.zero_()
        lse.fill_(-SKIPPED)
        return
    if flagged is None:
        return band_forward(s, group.band, out, lse)  # type: ignore[arg-type]
    wide = out.new_zeros(out.shape, dtype=lse.dtype)
    lse.fill_(-SKIPPED)
    for piece in _pieces(s, group, flagged):
        q = piece.sequence.q
        part, part_lse = q.new_empty(q.shape), lse.new_empty(q.shape[:2])
        band_forward(piece.sequence, piece.band, part, part_lse)
        if piece.rows is None:
            _merge(wide, lse, part, part_lse)
        else:
            wide[:, piece.rows], lse[:, piece.rows] = part.to(wide.dtype), part_lse
    out.copy_(wide)


def _merge(out: Tensor, lse: Tensor, piece: Tensor, piece_lse: Tensor) -> None:
    """Take one more disjoint piece into the running output and log-sum-exp, in place."""
    total = torch.logaddexp(lse, piece_lse)
    out.mul_((lse - total).exp_()[..., None]).add_(piece * (piece_lse - total).exp_()[..., None])
    lse.copy_(total)


@dataclass(frozen=True)
class _Piece:
    """One piece of a pattern with flags; `rows` or `columns` name the queries or keys that it was gathered from."""

    sequence: Sequence
    band: Band
    rows: Tensor | None = None
    columns: Tensor | None = None


def _pieces(s: Sequence, group: HeadGroup, flags: tuple[Tensor, Tensor]) -> Iterator[_Piece]:
    """The band without flagged keys, all queries against the flagged keys, and the flagged queries against all keys.

    The last one replaces what the first two gave for its rows.
    """
    rows, columns = (one.nonzero()[:, 0] for one in flags)
    if group.band is not None:
        yield _Piece(_without_keys(s, columns), group.band)
    if len(columns):
        yield _Piece(_some_keys(s, columns), EVERYTHING, columns=columns)
    if len(rows):
        yield _Piece(_some_queries(s, rows), EVERYTHING, rows=rows)


def _without_keys(s: Sequence, columns: Tensor) -> Sequence:
    if not len(columns):
        return s
    mask = s.q.new_ones(s.k.shape[1], dtype=torch.bool) if s.key_mask is None else s.key_mask.clone()
    mask[columns] = False
    return replace(s, key_mask=mask)


def _some_keys(s: Sequence, columns: Tensor) -> Sequence:
    segments = None if s.k_segments is None else s.k_segments[columns]
    index = None if s.k_index is None else s.k_index[columns]
    return replace(s, k=s.k[:, columns], v=s.v[:, columns], key_mask=None, k_segments=segments, q_positions=None,
                   k_positions=None, k_index=index)  # fmt: skip


def _some_queries(s: Sequence, rows: Tensor) -> Sequence:
    segments = None if s.q_segments is None else s.q_segments[rows]
    index = None if s.q_index is None else s.q_index[rows]
    return replace(s, q=s.q[:, rows], q_segments=segments, q_positions=None, k_positions=None, q_index=index)


def _backward(
    inputs: Inputs, grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = _without_nan_padding(inputs)
    wide = _wide(inputs.q)
    grads = tuple(torch.zeros(x.shape, dtype=wide, device=x.device) for x in (inputs.q, inputs.k, inputs.v))
    if grad_out.stride(-1) != 1:
        grad_out = grad_out.contiguous()
    grad_lse = None if grad_lse is None else grad_lse.to(wide)
    lse = lse.masked_fill(torch.isneginf(lse), SKIPPED)
    for b in range(inputs.q.shape[0]):
        for group in compile_pattern(inputs.pattern, inputs.q.shape[1]):
            heads = slice(group.start, group.stop)
            rows = tuple(x[b, heads] for x in (grad_out, out, lse)) + (
                None if grad_lse is None else grad_lse[b, heads],
            )
            into = tuple(x[b, heads] for x in grads)
            _backward_group(_sequence(inputs, b, group), group, _flags(inputs, b), rows, into)  # type: ignore[arg-type]
    return tuple(x.to(inputs.q.dtype) for x in grads)  # type: ignore[return-value]


def _backward_group(
    s: Sequence,
    group: HeadGroup,
    flags: tuple[Tensor, Tensor] | None,
    rows: tuple[Tensor, Tensor, Tensor, Tensor | None],
    grads: tuple[Tensor, Tensor, Tensor],
) -> None:
    flagged = flags if group.flagged else None
    if flagged is None:
        if group.band is not None:
            band_backward(s, group.band, *rows, grads)
        return
    grad_out, out, lse, grad_lse = rows
    unflagged_lse = lse.masked_fill(flagged[0], SKIPPED)
    dq, dk, dv = grads
    for piece in _pieces(s, group, flagged):
        part = piece.sequence
        if piece.rows is not None:
            some = tuple(None if x is None else x[:, piece.rows] for x in rows)
            dq_rows = dq.new_zeros(part.q.shape)
            band_backward(part, piece.band, *some, (dq_rows, dk, dv))  # type: ignore[arg-type]
            dq.index_add_(1, piece.rows, dq_rows)
        elif piece.columns is not None:
            dk_columns, dv_columns = dk.new_zeros(part.k.shape), dv.new_zeros(part.v.shape)
            band_backward(part, piece.band, grad_out, out, unflagged_lse, grad_lse, (dq, dk_columns, dv_columns))
            dk.index_add_(1, piece.columns, dk_columns)
            dv.index_add_(1, piece.columns, dv_columns)
        else:
            band_backward(part, piece.band, grad_out, out, unflagged_lse, grad_lse, grads)


def _sequence(inputs: Inputs, b: int, group: HeadGroup) -> Sequence:
    heads = slice(group.start, group.stop)
    names = ("key_mask", "q_segments", "k_segments", "q_positions", "k_positions")
    rows = {name: None if (x := getattr(inputs, name)) is None else x[b] for name in names}
    if rows["key_mask"] is not None and rows["key_mask"].all():
        rows["key_mask"] = None
    queries, keys = inputs.queries, inputs.keys
    return Sequence(
        q=_last_contiguous(inputs.q[b, heads]), k=_last_contiguous(inputs.k[b, heads]),
        v=_last_contiguous(inputs.v[b, heads]), batch=b, first_head=group.start, scale=inputs.scale,
        query_start=inputs.query_start, dropout=inputs.dropout, seed=inputs.seed, **rows,
        q_index=torch.arange(queries, device=inputs.q.device) if inputs.dropout else None,
        k_index=torch.arange(keys, device=inputs.q.device) if inputs.dropout else None,
    )  # fmt: skip


def _flags(inputs: Inputs, b: int) -> tuple[Tensor, Tensor] | None:
    if inputs.q_flags is None or inputs.k_flags is None:
        return None
    return inputs.q_flags[b], inputs.k_flags[b]


def _without_nan_padding(inputs: Inputs) -> Inputs:
    """Padded keys and values are masked by adding to their scores, which a NaN or infinity there would survive."""
    if inputs.key_mask is None:
        return inputs
    padding = ~inputs.key_mask
    k, v = inputs.k, inputs.v
    if all(x.transpose(1, 2)[padding].isfinite().all() for x in (k, v)):
        return inputs
    return replace(inputs, k=k.masked_fill(padding[:, None, :, None], 0), v=v.masked_fill(padding[:, None, :, None], 0))


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _wide(q: Tensor) -> torch.dtype:
    return q.dtype if q.dtype.itemsize >= 4 else torch.float32
