"""A group of heads of one sequence: the pieces of their pattern, each by its band kernel, merged by log-sum-exp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gossamer.kernels.band import band_backward, band_forward
from gossamer.kernels.pieces import Band, HeadGroup
from gossamer.kernels.sequence import Gradients, Sequence
from gossamer.kernels.tile_attention import MASKED, SKIPPED, Rows

__all__ = ["group_backward", "group_forward"]

EVERYTHING = Band(low=None, high=None)


@dataclass(frozen=True)
class _Piece:
    """A band over a sequence; `rows` or `columns` name the queries or keys that it was gathered from."""

    sequence: Sequence
    band: Band
    rows: Tensor | None = None
    columns: Tensor | None = None


def group_forward(s: Sequence, group: HeadGroup, out: Tensor, lse: Tensor) -> None:
    """Write `out` [heads, queries, size] and `lse` [heads, queries]; rows that see nothing as in `band_forward`."""
    if group.band is None:
        out.zero_()
        lse.fill_(MASKED)
    if s.q_flags is None or not group.flagged:
        if group.band is not None:
            band_forward(s, group.band, out, lse)
        return
    total = out.to(lse.dtype)
    for piece in _pieces(s, group):
        if piece.rows is None and piece.columns is None:
            band_forward(piece.sequence, piece.band, total, lse)
            continue
        q = piece.sequence.q
        part, part_lse = q.new_empty(q.shape), lse.new_empty(q.shape[:2])
        band_forward(piece.sequence, piece.band, part, part_lse)
        if piece.rows is None:
            _merge(total, lse, part, part_lse)
        else:
            total[:, piece.rows], lse[:, piece.rows] = part, part_lse
    if total is not out:
        out.copy_(total)


def group_backward(s: Sequence, group: HeadGroup, rows: Rows, grads: Gradients) -> None:
    """Add the gradients of all pieces to `grads`, each with the final output and log-sum-exp in `rows`."""
    if s.q_flags is None or not group.flagged:
        if group.band is not None:
            band_backward(s, group.band, rows, grads)
        return
    unflagged = replace(rows, lse=rows.lse.masked_fill(s.q_flags, SKIPPED))
    for piece in _pieces(s, group):
        if piece.rows is not None:
            _backward_rows(piece.sequence, piece.band, piece.rows, rows, grads)
        elif piece.columns is not None:
            _backward_columns(piece.sequence, piece.band, piece.columns, unflagged, grads)
        else:
            band_backward(piece.sequence, piece.band, unflagged, grads)


def _pieces(s: Sequence, group: HeadGroup) -> Iterator[_Piece]:
    """The band without flagged keys, all queries against the flagged keys, and the flagged queries against all keys.

    The last one replaces what the first two gave for its rows.
    """
    assert s.q_flags is not None
    assert s.k_flags is not None
    rows, columns = s.q_flags.nonzero()[:, 0], s.k_flags.nonzero()[:, 0]
    if group.band is not None:
        yield _Piece(s.without_keys(columns) if len(columns) else s, group.band)
    if len(columns):
        yield _Piece(replace(s.some_keys(columns), key_mask=None), EVERYTHING, columns=columns)
    if len(rows):
        yield _Piece(s.some_queries(rows), EVERYTHING, rows=rows)


def _merge(out: Tensor, lse: Tensor, piece: Tensor, piece_lse: Tensor) -> None:
    """Take one more disjoint piece into the running output and log-sum-exp, in place."""
    total = torch.logaddexp(lse, piece_lse)
    out.mul_((lse - total).exp_()[..., None]).add_(piece * (piece_lse - total).exp_()[..., None])
    lse.copy_(total)


def _backward_rows(s: Sequence, band: Band, at: Tensor, rows: Rows, grads: Gradients) -> None:
    grad_q = grads.q.new_zeros(s.q.shape)
    band_backward(s, band, rows.at((slice(None), at)), replace(grads, q=grad_q))
    grads.q.index_add_(1, at, grad_q)


def _backward_columns(s: Sequence, band: Band, at: Tensor, rows: Rows, grads: Gradients) -> None:
    part = Gradients(grads.q, grads.k.new_zeros(s.k.shape), grads.v.new_zeros(s.v.shape))
    band_backward(s, band, rows, part)
    grads.k.index_add_(1, at, part.k)
    grads.v.index_add_(1, at, part.v)
