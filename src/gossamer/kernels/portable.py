"""Blocked attention in plain differentiable operations of fixed structure: what torch.export, XLA and MPS can take.

No branch depends on a length or a value, so one exported graph serves every length, in linear memory: a band becomes
overlapping windows of padded keys, and flagged tokens are gathered by their (unbacked) count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.kernels.inputs import Inputs
from gossamer.kernels.pieces import Band, HeadGroup, compile_pattern
from gossamer.kernels.tile_attention import MASKED, NOTHING_SEEN, wide

__all__ = ["portable"]

ROWS = 128


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """q, k, v and what every token carries, nothing left out: [batch, heads or 1, length, size or 1]."""

    q: Tensor
    k: Tensor
    v: Tensor
    real: Tensor
    q_segments: Tensor
    k_segments: Tensor
    scale: float


def portable(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp of the whole pattern, like `blocked`, without dropout and without positions."""
    inputs = inputs.with_repeated_heads()
    q, k, v = inputs.q, inputs.k, inputs.v
    real = k.new_ones(k.shape[0], 1, k.shape[2], 1, dtype=torch.bool)
    if inputs.key_mask is not None:
        real = inputs.key_mask[:, None, :, None]
        k, v = k.masked_fill(~real, 0), v.masked_fill(~real, 0)
    tokens = _Tokens(
        q=q, k=k, v=v, real=real, scale=inputs.scale,
        q_segments=_segments(inputs.q_segments, q), k_segments=_segments(inputs.k_segments, k),
    )  # fmt: skip
    parts = [_group(tokens, group, inputs) for group in compile_pattern(inputs.pattern, q.shape[1])]
    out, lse = (torch.cat(one, 1) for one in zip(*parts, strict=True))
    empty = lse < NOTHING_SEEN
    return out.masked_fill(empty[..., None], 0).to(q.dtype), lse.masked_fill(empty, float("-inf"))


def _segments(x: Tensor | None, like: Tensor) -> Tensor:
    return like.new_zeros(like.shape[0], 1, like.shape[2], 1) if x is None else x[:, None, :, None]


def _group(tokens: _Tokens, group: HeadGroup, inputs: Inputs) -> tuple[Tensor, Tensor]:
    heads = slice(group.start, group.stop)
    s = replace(tokens, q=tokens.q[:, heads], k=tokens.k[:, heads], v=tokens.v[:, heads])
    band = group.band or Band(low=0, high=-1)
    if not group.flagged or inputs.q_flags is None or inputs.k_flags is None:
        return _band(s, band, inputs.query_start)
    q_flags, k_flags = (x[:, None, :, None] for x in (inputs.q_flags, inputs.k_flags))
    near = _band(replace(s, real=s.real & ~k_flags), band, inputs.query_start)
    return _with_rows(s, q_flags, *_merged(near, _columns(s, k_flags)))


def _merged(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    total = torch.logaddexp(a[1], b[1])
    return a[0] * (a[1] - total).exp()[..., None] + b[0] * (b[1] - total).exp()[..., None], total


def _some(flags: Tensor) -> Tensor:
    """Indices of the tokens flagged anywhere in the batch, and of the first token so that there is always one."""
    first = torch.arange(flags.shape[2], device=flags.device) == 0
    return (flags[:, 0, :, 0].any(0) | first).nonzero()[:, 0]


def _columns(s: _Tokens, flags: Tensor) -> tuple[Tensor, Tensor]:
    """All queries against the flagged keys."""
    at = _some(flags)
    allowed = flags[:, :, at].mT & (s.q_segments == s.k_segments[:, :, at].mT)
    return _attention(s.q, s.k[:, :, at], s.v[:, :, at], allowed, s.scale)


def _with_rows(s: _Tokens, flags: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """Replace what the flagged queries got by their attention to all keys."""
    at = _some(flags)
    allowed = s.real.mT & (s.q_segments[:, :, at] == s.k_segments.mT)
    rows, rows_lse = _attention(s.q[:, :, at], s.k, s.v, allowed, s.scale)
    flagged = flags[:, :, at]
    rows = torch.where(flagged, rows, out[:, :, at])
    rows_lse = torch.where(flagged[..., 0], rows_lse, lse[:, :, at])
    return out.index_copy(2, at, rows), lse.index_copy(2, at, rows_lse)


def _band(s: _Tokens, band: Band, query_start: int) -> tuple[Tensor, Tensor]:
    if band.low is None or band.high is None:
        return _unbounded(s, band, query_start)
    step, shift = band.dilation, query_start % band.dilation
    q, q_segments = (_classes(x, step, shift) for x in (s.q, s.q_segments))
    k, v, real, k_segments = (_classes(x, step, 0) for x in (s.k, s.v, s.real, s.k_segments))
    out, lse = _windows(q, k, v, real, q_segments, k_segments, band.low, band.high, query_start // step, s.scale)
    return _unclassed(out, shift, s.q.shape[2]), _unclassed(lse[..., None], shift, s.q.shape[2])[..., 0]


def _unbounded(s: _Tokens, band: Band, query_start: int) -> tuple[Tensor, Tensor]:
    allowed = s.real.mT & (s.q_segments == s.k_segments.mT)
    if band.high is not None:
        queries, keys = (torch.arange(x.shape[2], device=x.device) for x in (s.q, s.k))
        allowed = allowed & (keys - queries[:, None] - query_start <= band.high)
    return _attention(s.q, s.k, s.v, allowed, s.scale)


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


def _attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    q, k, v = (x.to(wide(q)) for x in (q, k, v))
    scores = (q @ k.mT * scale).masked_fill(~allowed, MASKED)
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp() @ v, lse
