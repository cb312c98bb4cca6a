"""The kernel as one differentiable operator over all pieces of a pattern; torch.compile sees one opaque node."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from gossamer.kernels.backends.cpu.c_call import BY_HEAD, SHARED, Call, CRows, CTensor
from gossamer.kernels.backends.cpu.distances import Distances
from gossamer.kernels.backends.cpu.hashed_rows import hashed_pieces
from gossamer.kernels.backends.cpu.library import library
from gossamer.kernels.backends.cpu.rows import Piece, RowList, Side, pieces_of
from gossamer.kernels.dropout import keep_threshold
from gossamer.kernels.hashing import alone
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.operator import Arguments, Gradients, Operator, empty_outputs
from gossamer.kernels.pieces import HeadGroup
from gossamer.kernels.storage import check_storage, is_cut_off, span_bytes

__all__ = ["CPU_TYPES", "Prepared", "cpu", "prepare"]

CPU_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
EXACT_LSE = 1024.0
"""From here on float32 has too few digits for a log-sum-exp: the backward pass takes the row sums, computed again."""
LOWEST = -torch.finfo(torch.float32).max
"""The largest score of a row that has seen nothing; what native/tiles.hpp calls LOWEST."""


def cpu(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output [batch, heads, queries, size of v] and log-sum-exp [batch, heads, queries] of the whole pattern."""
    found = OPERATOR(inputs)
    return found if inputs.buckets is None else alone(inputs, *found)


@dataclass(frozen=True)
class RowSums:
    """All digits of a log-sum-exp, both like it in shape and layout, in float32.

    Of a row, the largest score before |scale| (times the scale's sign), and the sum of exp(|scale| * (score - most)).
    """

    most: Tensor
    sum: Tensor


def _forward(call: Arguments) -> tuple[Tensor, Tensor]:
    out, lse, _ = _attend(_readable(call), exact=False)
    return out, lse


def _attend(call: Arguments, exact: bool) -> tuple[Tensor, Tensor, RowSums | None]:
    """Output and log-sum-exp; also the row sums if `exact`, and where several pieces of a row go on from them."""
    out, lse = empty_outputs(call.q, call.v)
    pieces, direct = _work(call)
    distances = Distances.of(call)
    sums = None if direct and not exact else RowSums(torch.full_like(lse, LOWEST), torch.zeros_like(lse))
    # Several pieces add up in float32; rounding each of them would show.
    total = out if direct or out.dtype == torch.float32 else torch.empty_like(out, dtype=torch.float32)
    if not direct:
        total.zero_()
        lse.fill_(-torch.inf)
    for piece in pieces:
        one = _describe(call, piece, total, lse, sums, distances)
        one.resume = not direct
        library().gs_forward(ctypes.byref(one))
    return (out if total is out else out.copy_(total)), lse, sums


def _backward(
    call: Arguments, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None, table_learns: bool
) -> Gradients:
    call, grad_out, out, sums = _readable(call), _last_contiguous(grad_out), _last_contiguous(out), None
    if bool((lse.nan_to_num(neginf=0.0).abs() > EXACT_LSE).any()):
        _, lse, sums = _attend(call, exact=True)
    grad_lse = None if grad_lse is None else grad_lse.contiguous()
    pieces, direct = _work(call)
    dq = torch.empty(call.q.shape, dtype=call.q.dtype if direct else torch.float32)
    # Several queries add to the gradients of a key.
    dk, dv = (torch.zeros(x.shape, dtype=torch.float32) for x in (call.k, call.v))
    if not direct:
        dq.zero_()
    distances = Distances.of(call, learns=table_learns)
    for piece in pieces:
        one = _describe(call, piece, out, lse, sums, distances)
        one.resume = not direct
        one.dout = _tensor(grad_out, piece.start)
        one.dlse = None if grad_lse is None else _from_head(grad_lse, piece.start)
        one.dq, one.dk, one.dv = (_tensor(x, piece.start) for x in (dq, dk, dv))
        library().gs_backward(ctypes.byref(one))
    dq, dk, dv = (x.to(call.q.dtype) for x in (dq, dk, dv))
    if call.table is None or distances is None or distances.gradient is None:
        return dq, dk, dv, None
    return dq, dk, dv, distances.gradient.to(call.table.dtype)


OPERATOR = Operator("cpu", _forward, _backward, shares_heads=True)


class Prepared:
    """A call of one piece that depends on nothing but the tensors' layout: described once, then only places change."""

    def __init__(self, call: Arguments, piece: Piece) -> None:
        out, lse = empty_outputs(call.q, call.v)
        self._call = bytes(_describe(call, piece, out, lse, None, None))
        self._spans = [span_bytes(x) for x in (call.q, call.k, call.v)]
        # One operation of torch's for each; they take as long as the attention of a few tokens.
        self._out, self._lse = ((x.shape, x.stride(), x.dtype) for x in (out, lse))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Output and log-sum-exp of tensors laid out like those that it was made of."""
        if any(map(is_cut_off, (q, k, v), self._spans)):
            for name, x in (("q", q), ("k", k), ("v", v)):
                check_storage(name, x)
        out, lse = _empty(*self._out), _empty(*self._lse)
        one = Call.from_buffer_copy(self._call)
        one.threads = torch.get_num_threads()
        one.q.data, one.k.data, one.v.data = q.data_ptr(), k.data_ptr(), v.data_ptr()
        one.out.data, one.lse = out.data_ptr(), lse.data_ptr()
        library().gs_forward(ctypes.byref(one))
        return out, lse


def _empty(shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, stride, dtype=dtype)


def prepare(inputs: Inputs) -> Prepared | None:
    """The call prepared for others like it, or None where its pieces depend on more than the tensors' layout."""
    call = OPERATOR.call(inputs)
    if call.extras or call.table is not None or _readable(call) is not call or call.k.shape[1] != inputs.k.shape[1]:
        return None
    pieces = _pieces(call)
    whole = len(pieces) == 1 and (pieces[0].start, pieces[0].stop) == (0, call.q.shape[1])
    return Prepared(call, pieces[0]) if whole and not pieces[0].listed else None


def _work(call: Arguments) -> tuple[Iterable[Piece], bool]:
    """The pieces, and whether each row is written once. Those of hashed rounds are made one after the other."""
    if call.buckets is not None:
        return hashed_pieces(call), False
    pieces = _pieces(call)
    return pieces, _written_once(pieces, call.q.shape[1])


def _written_once(pieces: tuple[Piece, ...], heads: int) -> bool:
    """Whether one piece has all rows of its heads, and every head its piece."""
    whole = all(one.queries.index is None for one in pieces)
    return whole and sum(p.stop - p.start for p in pieces) == heads and len({p.start for p in pieces}) == len(pieces)


def _readable(call: Arguments) -> Arguments:
    """The last dimension in one piece."""
    q, k, v = (_last_contiguous(x) for x in (call.q, call.k, call.v))
    return call if q is call.q and k is call.k and v is call.v else replace(call, q=q, k=k, v=v)


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _pieces(call: Arguments) -> tuple[Piece, ...]:
    batch, _, queries, _ = call.q.shape
    keys, start = call.k.shape[2], call.query_start
    plain = all(band.plain for group in call.groups for band in group.bands)
    if plain and call.keys.unmarked and call.keys.flags is None:
        return _unmarked_pieces(call.groups, queries, start, keys)
    sides = Side(rows=queries, start=start, known=call.queries), Side(rows=keys, known=call.keys)
    return tuple(_pieces_of(call.groups, *sides, batch))


@lru_cache(maxsize=64)
def _unmarked_pieces(groups: tuple[HeadGroup, ...], queries: int, start: int, keys: int) -> tuple[Piece, ...]:
    """Where only the numbers of rows are known, which is the same for every text."""
    return tuple(_pieces_of(groups, Side(rows=queries, start=start), Side(rows=keys), 1))


def _pieces_of(groups: tuple[HeadGroup, ...], queries: Side, keys: Side, batch: int) -> Iterator[Piece]:
    for group in groups:
        for piece in pieces_of(group, queries, keys, batch):
            if all(one.index is None or len(one.index) for one in (piece.queries, piece.keys)):
                yield piece


def _describe(
    call: Arguments, piece: Piece, out: Tensor, lse: Tensor, sums: RowSums | None, distances: Distances | None
) -> Call:
    heads, key_heads = piece.stop - piece.start, call.k.shape[1]
    one = Call(type=CPU_TYPES[call.q.dtype], out_type=CPU_TYPES[out.dtype], threads=torch.get_num_threads())
    one.batch, one.size, one.value_size = call.q.shape[0], call.q.shape[3], call.v.shape[3]
    # Only where all heads have one pattern are there fewer key heads.
    one.heads, one.key_heads, one.first_head = heads, min(heads, key_heads), piece.start
    one.q, one.k, one.v = (_tensor(x, piece.start) for x in (call.q, call.k, call.v))
    one.out = _tensor(out, piece.start)
    one.lse = _from_head(lse, piece.start)
    if sums is not None:
        one.most, one.sum = (_from_head(x, piece.start) for x in (sums.most, sums.sum))
    one.lse_batch_stride, one.lse_head_stride = lse.stride(0), lse.stride(1)
    one.queries, one.keys = _rows(piece.queries), _rows(piece.keys)
    if distances is not None:
        one.distances = distances.from_head(piece.start)
    one.band_low, one.band_high = piece.band
    one.second_low, one.second_high = piece.second
    one.scale = call.scale
    if call.dropout:
        assert call.seed is not None
        one.dropout_threshold, one.dropout_factor = keep_threshold(call.dropout), 1 / (1 - call.dropout)
        one.seed = int(call.seed) % 2**32
    return one


def _tensor(x: Tensor, head: int) -> CTensor:
    """The tensor from a head on."""
    batch, heads, rows, _ = x.stride()
    return CTensor(x.data_ptr() + head * heads * x.itemsize, batch, heads, rows)


def _from_head(x: Tensor, head: int) -> int:
    return x.data_ptr() + head * x.stride(1) * x.itemsize


def _rows(rows: RowList) -> CRows:
    index, band, second, offsets = (
        None if x is None else x.data_ptr() for x in (rows.index, rows.band, rows.second, rows.offsets)
    )
    lists = BY_HEAD if rows.by_head else SHARED if rows.shared else 0
    met, count, stride = (None, 0, 0) if rows.met is None else (rows.met.data_ptr(), len(rows.met), rows.met.stride(0))
    return CRows(index, band, second, offsets, rows.rows, rows.start, lists, met, count, stride)
