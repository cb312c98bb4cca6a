"""A group of heads of one sequence: the pieces of their pattern, each by its band kernel, merged by log-sum-exp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gossamer.kernels.backends.blocked.band import band_backward, band_forward
from gossamer.kernels.backends.blocked.sequence import Sequence, Sums
from gossamer.kernels.backends.blocked.tile_attention import MASKED, SKIPPED, Rows
from gossamer.kernels.pieces import HeadGroup
from gossamer.patterns import Band

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
    pieces = list(_pieces(s, group))
    if len(pieces) == 1 and pieces[0].rows is None:
        band_forward(pieces[0].sequence, pieces[0].band, out, lse)
        return
    total = out.to(lse.dtype)
    total.zero_()
    lse.fill_(MASKED)
    for number, piece in enumerate(pieces):
        if number == 0 and piece.rows is None:
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


def group_backward(s: Sequence, group: HeadGroup, rows: Rows, grads: Sums) -> None:
    """Add the gradients of all pieces to `grads`, each with the final output and log-sum-exp in `rows`."""
    unflagged = rows
    if s.queries.flags is not None and group.flagged:
        unflagged = replace(rows, lse=rows.lse.masked_fill(s.queries.flags, SKIPPED))
    for piece in _pieces(s, group):
        if piece.rows is not None:
            _backward_rows(piece.sequence, piece.band, piece.rows, rows, grads)
        elif piece.columns is not None:
            _backward_columns(piece.sequence, piece.band, piece.columns, unflagged, grads)
        else:
            band_backward(piece.sequence, piece.band, unflagged, grads)


def _pieces(s: Sequence, group: HeadGroup) -> Iterator[_Piece]:
    """The bands, then all queries against the flagged keys, and the flagged queries against all keys.

    Bands leave out flagged keys. The last piece replaces what the others gave for its rows.
    """
    flagged = group.flagged and s.queries.flags is not None
    rows, columns = (x.nonzero()[:, 0] if flagged and x is not None else None for x in (s.queries.flags, s.keys.flags))
    near = s if columns is None or not len(columns) else s.without_keys(columns)
    for band in group.bands:
        if band.stride and not band.own_block:
            cells, at = near.cells(band.stride, band.first, band.stop)
            yield _Piece(cells, replace(band, stride=0, first=0, stop=0), columns=at)
        else:
            yield _Piece(near.placed() if band.stride else near, band)
    if columns is not None and len(columns):
        yield _Piece(s.with_real(None).some_keys(columns), EVERYTHING, columns=columns)
    if rows is not None and len(rows):
        yield _Piece(s.some_queries(rows), EVERYTHING, rows=rows)


def _merge(out: Tensor, lse: Tensor, piece: Tensor, piece_lse: Tensor) -> None:
    """Take one more disjoint piece into the running output and log-sum-exp, in place."""
    total = torch.logaddexp(lse, piece_lse)
    out.mul_((lse - total).exp_()[..., None]).add_(piece * (piece_lse - total).exp_()[..., None])
    lse.copy_(total)


def _backward_rows(s: Sequence, band: Band, at: Tensor, rows: Rows, grads: Sums) -> None:
    grad_q = grads.q.new_zeros(s.q.shape)
    band_backward(s, band, rows.at((slice(None), at)), replace(grads, q=grad_q))
    grads.q.index_add_(1, at, grad_q)


def _backward_columns(s: Sequence, band: Band, at: Tensor, rows: Rows, grads: Sums) -> None:
    part = replace(grads, k=grads.k.new_zeros(s.k.shape), v=grads.v.new_zeros(s.v.shape))
    band_backward(s, band, rows, part)
    grads.k.index_add_(1, at, part.k)
    grads.v.index_add_(1, at, part.v)
