"""Blocked attention in plain differentiable operations of fixed structure: what torch.export, XLA and MPS can take.

No branch depends on a length or a value, so one exported graph serves every length. A bounded band becomes gathered
blocks, in linear memory; columns and summary cells take memory for about all their pairs, as full attention does.
Flagged tokens and summary cells are gathered by their (unbacked) count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.kernels.backend import Backend, Cost
from gossamer.kernels.backends.blocked.backend import tile_cost
from gossamer.kernels.backends.blocked.hashed import hashed, why_not_hashed
from gossamer.kernels.backends.blocked.tile_attention import MASKED, NOTHING_SEEN
from gossamer.kernels.backends.blocked.tile_masks import by_positions, in_own_block
from gossamer.kernels.flagged import flagged_anywhere
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.operator import why_no_bias
from gossamer.kernels.pieces import HeadGroup, why_not_pieces
from gossamer.kernels.precision import wide
from gossamer.patterns import Band, Full

__all__ = ["PORTABLE", "portable"]

ROWS = 64
"""Queries of a block."""
WIDE = 2**14
"""Tokens that a block is gathered from at most: a band or a dilation that reaches farther is computed as all pairs."""


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """q, k, v and what every token carries, nothing left out: [batch, heads or 1, length, size or 1]."""

    q: Tensor
    k: Tensor
    v: Tensor
    real: Tensor
    q_segments: Tensor
    k_segments: Tensor
    q_positions: Tensor
    k_positions: Tensor
    scale: float


def portable(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of the whole pattern, like `blocked`, without dropout and without positions."""
    if inputs.buckets is not None:
        return hashed(inputs)
    inputs = inputs.with_repeated_heads()
    q, k, v = inputs.q, inputs.k, inputs.v
    real = k.new_ones(k.shape[0], 1, k.shape[2], 1, dtype=torch.bool)
    if inputs.keys.real is not None:
        real = inputs.keys.real[:, None, :, None]
        k, v = k.masked_fill(~real, 0), v.masked_fill(~real, 0)
    q_positions, k_positions = inputs.read_positions
    tokens = _Tokens(
        q=q, k=k, v=v, real=real, scale=inputs.scale,
        q_segments=_segments(inputs.queries.segments, q), k_segments=_segments(inputs.keys.segments, k),
        q_positions=q_positions[:, None, :, None], k_positions=k_positions[:, None, :, None],
    )  # fmt: skip
    assert inputs.groups is not None
    parts = [_group(tokens, group, inputs) for group in inputs.groups]
    out, lse = (torch.cat(one, 1) for one in zip(*parts, strict=True))
    empty = lse < NOTHING_SEEN
    return out.masked_fill(empty[..., None], 0).to(q.dtype), lse.masked_fill(empty, float("-inf"))


def _is_wide(band: Band) -> bool:
    """Whether all pairs are computed, as blocks would take memory for the reach of the band, however short the text."""
    if band.stride and not band.own_block:
        return False
    steps = 1 if band.low is None or band.high is None else band.high - band.low + 1
    return band.dilation * steps > WIDE


def _segments(x: Tensor | None, like: Tensor) -> Tensor:
    return like.new_zeros(like.shape[0], 1, like.shape[2], 1) if x is None else x[:, None, :, None]


def _group(tokens: _Tokens, group: HeadGroup, inputs: Inputs) -> tuple[Tensor, Tensor]:
    heads = slice(group.start, group.stop)
    s = replace(tokens, q=tokens.q[:, heads], k=tokens.k[:, heads], v=tokens.v[:, heads])
    bands = group.bands or (Band(low=0, high=-1),)
    if not group.flagged or inputs.queries.flags is None or inputs.keys.flags is None:
        return _all(s, bands, inputs)
    q_flags, k_flags = (x[:, None, :, None] for x in (inputs.queries.flags, inputs.keys.flags))
    near = _all(replace(s, real=s.real & ~k_flags), bands, inputs)
    columns = flagged_anywhere(inputs.keys.flags)
    # One search for both, since its number is a size that every later operation has to reckon with.
    are_keys = inputs.query_start == 0 and inputs.num_queries == inputs.num_keys
    rows = columns if are_keys else flagged_anywhere(inputs.queries.flags)
    return _with_rows(s, q_flags, rows, *_merged(near, _columns(s, k_flags, columns)))


def _all(s: _Tokens, bands: tuple[Band, ...], inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The pieces of all bands, merged."""
    return reduce(_merged, (_piece(s, band, inputs) for band in bands))


def _piece(s: _Tokens, band: Band, inputs: Inputs) -> tuple[Tensor, Tensor]:
    if band.stride and not band.own_block:
        return _cells(s, band)
    if _is_wide(band) or (band.dilation == 1 and (band.low is None or band.high is None)):
        return _all_pairs(s, band)
    if band.low is not None and band.high is not None:
        return _band(s, band, band.low, band.high, inputs.query_start)
    return _classes(s, band, inputs.query_start)


def _merged(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    # Not logaddexp, which torch writes into ONNX as log(exp(a) + exp(b)): beyond 88 that is infinity, or nothing.
    total = torch.maximum(a[1], b[1]) + (-(a[1] - b[1]).abs()).exp().log1p()
    return a[0] * (a[1] - total).exp()[..., None] + b[0] * (b[1] - total).exp()[..., None], total


def _columns(s: _Tokens, flags: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """All queries against the flagged keys, which are among those in `at`."""
    allowed = flags[:, :, at].mT & (s.q_segments == s.k_segments[:, :, at].mT)
    return _attention(s.q, s.k[:, :, at], s.v[:, :, at], allowed, s.scale)


def _with_rows(s: _Tokens, flags: Tensor, at: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """Replace what the flagged queries, which are among those in `at`, got by their attention to all keys."""
    allowed = s.real.mT & (s.q_segments[:, :, at] == s.k_segments.mT)
    rows, rows_lse = _attention(s.q[:, :, at], s.k, s.v, allowed, s.scale)
    flagged = flags[:, :, at]
    rows = torch.where(flagged, rows, out[:, :, at])
    rows_lse = torch.where(flagged[..., 0], rows_lse, lse[:, :, at])
    return out.index_copy(2, at, rows), lse.index_copy(2, at, rows_lse)


def _band(s: _Tokens, band: Band, low: int, high: int, query_start: int) -> tuple[Tensor, Tensor]:
    """A band by blocks of ROWS queries, each gathered with all keys that one of them may see.

    A dilated band is `step` plain bands: token i of the queries is number (i + shift) // step of class (i + shift) %
    step. Everything is index arithmetic, since slices and views would tie an exported graph to its example's lengths.
    """
    step, shift, device = band.dilation, query_start % band.dilation, s.q.device
    queries, width = s.q.shape[2], high - low + ROWS
    # One block more than needed: a graph exported with a single block would serve no other number of them.
    blocks = (queries + shift + step * ROWS - 1) // (step * ROWS) + 1
    classes = torch.arange(step, device=device)[:, None, None]
    first = torch.arange(blocks, device=device)[:, None] * ROWS
    rows, columns = torch.arange(ROWS, device=device), torch.arange(width, device=device)
    at_queries = classes + step * (first + rows) - shift
    at_keys = classes + step * (first + columns + low + query_start // step)
    q, q_segments = (_gathered(x, at_queries) for x in (s.q, s.q_segments))
    k, v, real, k_segments = (_gathered(x, at_keys) for x in (s.k, s.v, s.real, s.k_segments))
    distance = columns - rows[:, None]
    near = (distance >= 0) & (distance <= high - low)
    if band.apart:
        near = near & ((distance + low) * step % band.apart != 0)
    if band.own_block:
        near = near & in_own_block(band, _gathered(s.q_positions, at_queries), _gathered(s.k_positions, at_keys).mT)
    out, lse = _attention(q, k, v, near & real.mT & (q_segments == k_segments.mT), s.scale)
    slots = torch.arange(queries, device=device) + shift
    slots = slots % step * (blocks * ROWS) + slots // step
    return out.flatten(2, 4)[:, :, slots], lse.flatten(2, 4)[:, :, slots]


def _classes(s: _Tokens, band: Band, query_start: int) -> tuple[Tensor, Tensor]:
    """A dilated band without a lower bound: each residue class whole, as many pairs as the band has, about twice."""
    step, shift, device = band.dilation, query_start % band.dilation, s.q.device
    queries = s.q.shape[2]
    # One more than needed: see `_band`.
    rows, columns = ((length + step - 1) // step + 1 for length in (queries + shift, s.k.shape[2]))
    classes = torch.arange(step, device=device)[:, None]
    at_rows, at_columns = torch.arange(rows, device=device), torch.arange(columns, device=device)
    q, q_segments = (_gathered(x, classes + step * at_rows - shift) for x in (s.q, s.q_segments))
    k, v, real, k_segments = (_gathered(x, classes + step * at_columns) for x in (s.k, s.v, s.real, s.k_segments))
    distance = at_columns - at_rows[:, None] - query_start // step
    assert band.high is not None
    allowed = (distance <= band.high) & real.mT & (q_segments == k_segments.mT)
    out, lse = _attention(q, k, v, allowed, s.scale)
    slots = torch.arange(queries, device=device) + shift
    slots = slots % step * rows + slots // step
    return out.flatten(2, 3)[:, :, slots], lse.flatten(2, 3)[:, :, slots]


def _cells(s: _Tokens, band: Band) -> tuple[Tensor, Tensor]:
    """All queries against the keys in the cells of their blocks."""
    place = s.k_positions.remainder(band.stride)
    is_cell = (place >= band.first) & (place < band.stop)
    at = flagged_anywhere(is_cell[:, 0, :, 0])
    allowed = (
        by_positions(replace(band, stride=0, first=0, stop=0), s.q_positions, s.k_positions[:, :, at].mT)
        & is_cell[:, :, at].mT
    )
    allowed = allowed & s.real[:, :, at].mT & (s.q_segments == s.k_segments[:, :, at].mT)
    return _attention(s.q, s.k[:, :, at], s.v[:, :, at], allowed, s.scale)


def _gathered(x: Tensor, at: Tensor) -> Tensor:
    """Tokens [batch, heads, length, size] by index, [batch, heads, *index, size]; zeros (False) where there is none."""
    length = x.shape[2]
    return pad(x, (0, 0, 0, 1))[:, :, torch.where((at >= 0) & (at < length), at, length)]


def _all_pairs(s: _Tokens, band: Band) -> tuple[Tensor, Tensor]:
    allowed = s.real.mT & (s.q_segments == s.k_segments.mT)
    if band.low is not None or band.high is not None:
        step, keys = band.dilation, s.k_positions.mT
        low, high = (None if bound is None else bound * step for bound in (band.low, band.high))
        allowed = allowed & by_positions(replace(band, low=low, high=high), s.q_positions, keys)
        if step > 1:
            allowed = allowed & ((keys - s.q_positions) % step == 0)
    return _attention(s.q, s.k, s.v, allowed, s.scale)


def _attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    q, k, v = (x.to(wide(q)) for x in (q, k, v))
    scores = (q @ k.mT * scale).masked_fill(~allowed, MASKED)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp() @ v, lse


def _why_not(inputs: Inputs) -> str | None:
    if inputs.groups is None:
        return why_not_pieces(inputs.pattern)
    if why := why_no_bias(inputs):
        return why
    if inputs.buckets is not None:
        return why_not_hashed(inputs)
    if inputs.dropout or inputs.queries.positions is not None:
        return "in plain operations (while exporting, and on this device) it has neither dropout nor positions"
    return None


def _cost(inputs: Inputs) -> Cost:
    """While exporting the lengths to come are not known: whatever leaves out pairs is taken."""
    if not torch.compiler.is_exporting():
        return tile_cost(inputs)
    if inputs.pattern in (Full(), Full(causal=True)):
        return Cost(pairs=None, if_more=("full attention", "no pair to leave out"))
    bands = [band for group in inputs.groups or () for band in group.bands]
    is_linear = all(band.low is not None and not _is_wide(band) for band in bands)
    memory = "in linear memory" if is_linear else "on little more than its pairs"
    return Cost(pairs=0, if_less=(f"exporting: plain operations {memory}", "quadratic"))


PORTABLE = Backend(name="blocked", why_not=_why_not, cost=_cost, run=portable)
