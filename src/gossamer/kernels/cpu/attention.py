"""The kernel as one differentiable operator over all pieces of a pattern; torch.compile sees one opaque node."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gossamer.kernels.cpu.library import Call, CRows, CTensor, library
from gossamer.kernels.cpu.rows import Piece, RowList, Tokens, pieces_of
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.operator import Arguments, Operator, empty_outputs

__all__ = ["CPU_TYPES", "cpu"]

CPU_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


def cpu(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output [batch, heads, queries, size] and log-sum-exp [batch, heads, queries] of the whole pattern."""
    return OPERATOR(inputs)


def _forward(call: Arguments) -> tuple[Tensor, Tensor]:
    call = _readable(call)
    out, lse = empty_outputs(call.q)
    pieces = list(_pieces(call))
    # Written once each where one piece has all rows of its heads.
    direct = all(one.queries.index is None for one in pieces) and (
        sum(p.stop - p.start for p in pieces) == out.shape[1] and len({p.start for p in pieces}) == len(pieces)
    )
    # Several pieces add up in float32; rounding each of them would show.
    total = out if direct or out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
    if not direct:
        total.zero_()
        lse.fill_(-torch.inf)
    for piece in pieces:
        one = _describe(call, piece, total, lse)
        one.resume = not direct
        library().gs_forward(ctypes.byref(one))
    return (out if total is out else out.copy_(total)), lse


def _backward(
    call: Arguments, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    call, grad_out = _readable(call), _last_contiguous(grad_out)
    delta = (out.float() * grad_out.float()).sum(-1)
    if grad_lse is not None:
        delta -= grad_lse
    grads = [torch.zeros(x.shape, dtype=torch.float32) for x in (call.q, call.k, call.v)]
    for piece in _pieces(call):
        one = _describe(call, piece, grad_out, lse)
        heads, key_heads = slice(piece.start, piece.stop), _key_heads(call, piece)
        one.dout = _tensor(grad_out[:, heads])
        one.delta = delta[:, heads].data_ptr()
        one.dq, one.dk, one.dv = (
            _tensor(x[:, part]) for x, part in zip(grads, (heads, key_heads, key_heads), strict=True)
        )
        library().gs_backward(ctypes.byref(one))
    dq, dk, dv = (x.to(call.q.dtype) for x in grads)
    return dq, dk, dv


OPERATOR = Operator("cpu", _forward, _backward, shares_heads=True)


def _readable(call: Arguments) -> Arguments:
    """The last dimension in one piece."""
    q, k, v = (_last_contiguous(x) for x in (call.q, call.k, call.v))
    return replace(call, q=q, k=k, v=v)


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _key_heads(call: Arguments, piece: Piece) -> slice:
    group = call.q.shape[1] // call.k.shape[1]
    return slice(piece.start // group, piece.stop // group)


def _pieces(call: Arguments) -> Iterator[Piece]:
    given = call.extras
    queries = Tokens(
        rows=call.q.shape[2],
        start=call.query_start,
        flags=given.get("q_flags"),
        segments=given.get("q_segments"),
        positions=given.get("q_positions"),
        places=given.get("q_places"),
    )
    keys = Tokens(
        rows=call.k.shape[2],
        real=given.get("key_mask"),
        flags=given.get("k_flags"),
        segments=given.get("k_segments"),
        positions=given.get("k_positions"),
        places=given.get("k_places"),
    )
    for group in call.groups:
        for piece in pieces_of(group, queries, keys, call.q.shape[0]):
            if all(one.index is None or len(one.index) for one in (piece.queries, piece.keys)):
                yield piece


def _describe(call: Arguments, piece: Piece, out: Tensor, lse: Tensor) -> Call:
    heads, key_heads = slice(piece.start, piece.stop), _key_heads(call, piece)
    q, k, v = call.q[:, heads], call.k[:, key_heads], call.v[:, key_heads]
    own = lse[:, heads]
    return Call(
        type=CPU_TYPES[q.dtype],
        out_type=CPU_TYPES[out.dtype],
        threads=torch.get_num_threads(),
        batch=q.shape[0],
        heads=q.shape[1],
        key_heads=k.shape[1],
        size=q.shape[3],
        first_head=piece.start,
        q=_tensor(q),
        k=_tensor(k),
        v=_tensor(v),
        out=_tensor(out[:, heads]),
        lse=own.data_ptr(),
        lse_batch_stride=own.stride(0),
        lse_head_stride=own.stride(1),
        queries=_rows(piece.queries),
        keys=_rows(piece.keys),
        band_low=piece.band[0],
        band_high=piece.band[1],
        second_low=piece.second[0],
        second_high=piece.second[1],
        scale=call.scale,
        dropout=call.dropout,
        seed=int(call.extras["seed"]) % 2**32 if call.dropout else 0,
    )


def _tensor(x: Tensor) -> CTensor:
    return CTensor(x.data_ptr(), x.stride(0), x.stride(1), x.stride(2))


def _rows(rows: RowList) -> CRows:
    index, band, second, offsets = (
        None if x is None else x.data_ptr() for x in (rows.index, rows.band, rows.second, rows.offsets)
    )
    return CRows(index, band, second, offsets, rows.rows, rows.start, rows.shared)
