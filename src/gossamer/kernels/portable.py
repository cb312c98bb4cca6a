"""Blocked attention in plain differentiable operations of fixed structure: what torch.export, XLA and MPS can take.

No branch depends on a length or a value, so one exported graph serves every length, in linear memory: a band becomes
overlapping windows of padded keys, and flagged tokens are gathered by their (unbacked) count.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.kernels.inputs import Inputs
from gossamer.kernels.pieces import Band, HeadGroup, compile_pattern
from gossamer.kernels.tile_attention import MASKED, NOTHING_SEEN

__all__ = ["portable"]

ROWS = 128


def portable(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of the whole pattern, like `blocked`, without dropout and without positions."""
    inputs = inputs.with_repeated_heads()
    if inputs.key_mask is None:
        inputs = replace(inputs, key_mask=inputs.q.new_ones(inputs.k.shape[0], inputs.keys, dtype=torch.bool))
    padding = ~inputs.key_mask[:, None, :, None]  # type: ignore[index]
    inputs = replace(inputs, k=inputs.k.masked_fill(padding, 0), v=inputs.v.masked_fill(padding, 0))
    parts = [_group(inputs, group) for group in compile_pattern(inputs.pattern, inputs.q.shape[1])]
    out, lse = (torch.cat(one, 1) for one in zip(*parts, strict=True))
    empty = lse < NOTHING_SEEN
    return out.masked_fill(empty[..., None], 0).to(inputs.q.dtype), lse.masked_fill(empty, float("-inf"))


def _group(inputs: Inputs, group: HeadGroup) -> tuple[Tensor, Tensor]:
    heads = slice(group.start, group.stop)
    s = replace(inputs, q=inputs.q[:, heads], k=inputs.k[:, heads], v=inputs.v[:, heads])
    if not group.flagged or s.k_flags is None or s.q_flags is None:
        return _band(s, group.band or Band(low=0, high=-1))
    rest = replace(s, key_mask=s.key_mask & ~s.k_flags)  # type: ignore[operator]
    out, lse = _columns(s) if group.band is None else _merged(_band(rest, group.band), _columns(s))
    return _with_rows(s, out, lse)


def _merged(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    total = torch.logaddexp(a[1], b[1])
    return a[0] * (a[1] - total).exp()[..., None] + b[0] * (b[1] - total).exp()[..., None], total


def _some(flags: Tensor) -> Tensor:
    """Indices of the tokens flagged anywhere in the batch, and of the first token so that there is always one."""
    first = torch.arange(flags.shape[1], device=flags.device) == 0
    return (flags.any(0) | first).nonzero()[:, 0]


def _columns(s: Inputs) -> tuple[Tensor, Tensor]:
    """All queries against the flagged keys."""
    index = _some(s.k_flags)  # type: ignore[arg-type]
    allowed = s.k_flags[:, index][:, None, None, :]  # type: ignore[index]
    if s.q_segments is not None and s.k_segments is not None:
        allowed = allowed & (s.q_segments[:, None, :, None] == s.k_segments[:, index][:, None, None, :])
    return _attention(s.q, s.k[:, :, index], s.v[:, :, index], allowed, s.scale)


def _with_rows(s: Inputs, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """Replace what the flagged queries got by their attention to all keys."""
    index = _some(s.q_flags)  # type: ignore[arg-type]
    allowed = s.key_mask[:, None, None, :]  # type: ignore[index]
    if s.q_segments is not None and s.k_segments is not None:
        allowed = allowed & (s.q_segments[:, index][:, None, :, None] == s.k_segments[:, None, None, :])
    rows, rows_lse = _attention(s.q[:, :, index], s.k, s.v, allowed, s.scale)
    flagged = s.q_flags[:, index][:, None]  # type: ignore[index]
    rows = torch.where(flagged[..., None], rows, out[:, :, index])
    rows_lse = torch.where(flagged, rows_lse, lse[:, :, index])
    return out.index_copy(2, index, rows), lse.index_copy(2, index, rows_lse)


def _band(s: Inputs, band: Band) -> tuple[Tensor, Tensor]:
    if band.low is None or band.high is None:
        return _attention(s.q, s.k, s.v, _unbounded(s, band), s.scale)
    step, shift = band.dilation, s.query_start % band.dilation
    q, q_segments = (_classes(x, step, shift) for x in (s.q, _segments(s.q_segments, s.q)))
    k, v, real, k_segments = (
        _classes(x, step, 0) for x in (s.k, s.v, _segments(s.key_mask, s.k), _segments(s.k_segments, s.k))
    )
    out, lse = _windows(q, k, v, real, q_segments, k_segments, band.low, band.high, s.query_start // step, s.scale)
    return _unclassed(out, shift, s.queries), _unclassed(lse[..., None], shift, s.queries)[..., 0]


def _segments(x: Tensor | None, like: Tensor) -> Tensor:
    """Per-token data [batch, length] as [batch, 1, length, 1]."""
    return like.new_zeros(like.shape[0], 1, like.shape[2], 1) if x is None else x[:, None, :, None]


def _classes(x: Tensor, step: int, shift: int) -> Tensor:
    """[batch, heads, length, size] by residue class: [batch, heads, step, ceil(length / step), size]."""
    if step == 1:
        return x[:, :, None]
    x = pad(x, (0, 0, shift, step - 1))
    length = x.shape[2] // step
    return x[:, :, : length * step].unflatten(2, (length, step)).transpose(2, 3)


def _unclassed(x: Tensor, shift: int, length: int) -> Tensor:
    return x.transpose(2, 3).flatten(2, 3)[:, :, shift : shift + length]


def _windows(
    q: Tensor, k: Tensor, v: Tensor, real: Tensor, q_segments: Tensor, k_segments: Tensor,
    low: int, high: int, start: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A plain band over dimension 3 of [batch, heads, classes, length, size]."""
    queries, keys = q.shape[3], k.shape[3]
    blocks = (queries + ROWS - 1) // ROWS
    width = high - low + ROWS
    front = max(-(start + low), 0)
    back = ROWS + max(high, 0) + width + torch.sym_max(queries + start - keys, 0)

    def windows(x: Tensor) -> Tensor:
        x = pad(x, (0, 0, front, back))[:, :, :, front + start + low :]
        return x.unfold(3, width, ROWS)[:, :, :, :blocks].mT

    def rows(x: Tensor) -> Tensor:
        x = pad(x, (0, 0, 0, ROWS))[:, :, :, : blocks * ROWS]
        return x.unflatten(3, (blocks, ROWS))

    distance = torch.arange(width, device=q.device) + low - torch.arange(ROWS, device=q.device)[:, None]
    allowed = (distance >= low) & (distance <= high) & windows(real)[..., 0][..., None, :]
    allowed = allowed & (rows(q_segments) == windows(k_segments)[..., 0][..., None, :])
    out, lse = _attention(rows(q), windows(k), windows(v), allowed, scale)
    return out.flatten(3, 4)[:, :, :, :queries], lse.flatten(3, 4)[:, :, :, :queries]


def _unbounded(s: Inputs, band: Band) -> Tensor:
    distance = torch.arange(s.keys, device=s.q.device) - torch.arange(s.queries, device=s.q.device)[:, None]
    allowed = s.key_mask[:, None, None, :]  # type: ignore[index]
    if band.high is not None:
        allowed = allowed & (distance - s.query_start <= band.high)
    if s.q_segments is not None and s.k_segments is not None:
        allowed = allowed & (s.q_segments[:, None, :, None] == s.k_segments[:, None, None, :])
    return allowed


def _attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    wide = q.dtype if q.dtype.itemsize >= 4 else torch.float32
    scores = (q.to(wide) @ k.to(wide).mT * scale).masked_fill(~allowed, MASKED)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp() @ v.to(wide), lse
