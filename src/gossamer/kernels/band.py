"""One band piece for one sequence: its tiles, their masks, and the forward and backward pass over them.

Everything here sees a single batch element: q [heads, queries, size], k and v [heads, keys, size], per-token data
[length]. Rows are addressed by *class index*: a dilated band is `dilation` plain bands over every dilation-th token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from gossamer.kernels.dropout import keep_mask
from gossamer.kernels.pieces import Band
from gossamer.kernels.tile_attention import MASKED, backward_tiles, forward_tiles, has_fused
from gossamer.kernels.tiles import Tiles, band_tiles, block_size

__all__ = ["Sequence", "band_backward", "band_forward"]

PLAIN_BYTES = 64 * 2**20
"""Plain operations write the scores of a tile to memory: so many bytes of them at once."""

CACHED_MASK = 2**18
"""Masks of at most so many pairs are kept from call to call."""

GRADIENT_BYTES = 4 * 2**20
"""The backward pass writes the gradients of overlapping keys to memory before it adds them: so many bytes at once."""

MASK_BYTES = 32 * 2**20
"""Tiles that need masks of their own get so many bytes of them at once."""


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One batch element and a group of its heads; `q_index` and `k_index` number the tokens for dropout.

    Where `key_mask`, segments and positions are None, tiles inside the sequence share one mask.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    batch: int
    first_head: int
    scale: float
    query_start: int = 0
    key_mask: Tensor | None = None
    q_segments: Tensor | None = None
    k_segments: Tensor | None = None
    q_positions: Tensor | None = None
    k_positions: Tensor | None = None
    dropout: float = 0.0
    seed: Tensor | None = None
    q_index: Tensor | None = None
    k_index: Tensor | None = None

    def every(self, dilation: int, residue: int) -> tuple[Sequence, slice, slice]:
        """The tokens whose position leaves this residue: a shorter sequence, read in place, and where its rows lie."""
        first = (residue - self.query_start) % dilation
        queries, keys = slice(first, None, dilation), slice(residue, None, dilation)
        part = replace(
            self,
            q=self.q[:, queries],
            k=self.k[:, keys],
            v=self.v[:, keys],
            query_start=(first + self.query_start - residue) // dilation,
            **{
                n: x[keys]
                for n in ("key_mask", "k_segments", "k_positions", "k_index")
                if (x := getattr(self, n)) is not None
            },
            **{n: x[queries] for n in ("q_segments", "q_positions", "q_index") if (x := getattr(self, n)) is not None},
        )
        return part, queries, keys


def band_forward(s: Sequence, band: Band, out: Tensor, lse: Tensor) -> None:
    """Write the band's attention into `out` [heads, queries, size] and its log-sum-exp into `lse` [heads, queries]."""
    for part, queries, _ in _classes(s, band):
        out_part, lse_part = out[:, queries], lse[:, queries]
        for tiles, mask in _masked_tiles(part, band, backward=False):
            if tiles.keys == 0 or mask is _ALL_MASKED:
                tiles.query_view(out_part).zero_()
                tiles.query_view(lse_part).fill_(MASKED)
                continue
            q, k, v = tiles.query_view(part.q), tiles.key_view(part.k), tiles.key_view(part.v)
            o, l = forward_tiles(q, k, v, mask, s.scale, _keep(part, tiles), s.dropout)
            tiles.query_view(out_part).copy_(o)
            tiles.query_view(lse_part).copy_(l)


def band_backward(
    s: Sequence,
    band: Band,
    grad_out: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_lse: Tensor | None,
    grads: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Add the band's gradients to `grads` of q, k, v; `out` and `lse` are the final ones of the whole pattern."""
    for part, queries, keys in _classes(s, band):
        dq, dk, dv = grads[0][:, queries], grads[1][:, keys], grads[2][:, keys]
        rows = [x[:, queries] for x in (grad_out, out, lse)] + [None if grad_lse is None else grad_lse[:, queries]]
        for tiles, mask in _masked_tiles(part, band, backward=True):
            if tiles.keys == 0 or mask is _ALL_MASKED:
                continue
            do, o, l, dl = (None if x is None else tiles.query_view(x) for x in rows)
            gq, gk, gv = backward_tiles(
                do, tiles.query_view(part.q), tiles.key_view(part.k), tiles.key_view(part.v), o, l, dl, mask,
                s.scale, _keep(part, tiles), s.dropout,
            )  # fmt: skip
            tiles.query_view(dq).add_(gq)
            tiles.add_keys(dk, gk)
            tiles.add_keys(dv, gv)


def _classes(s: Sequence, band: Band) -> Iterator[tuple[Sequence, slice, slice]]:
    if band.dilation == 1:
        yield s, slice(None), slice(None)
        return
    for residue in range(band.dilation):
        part, queries, keys = s.every(band.dilation, residue)
        if part.q.shape[1]:
            yield part, queries, keys


_ALL_MASKED = torch.empty(0)
"""Stands for the mask of tiles in which nobody sees anybody."""


def _masked_tiles(s: Sequence, band: Band, backward: bool) -> Iterator[tuple[Tiles, Tensor | None]]:
    """Tiles of the band with what to add to their scores; groups are cut where masks stop being alike."""
    rows = _rows(s, band, backward)
    for tiles in band_tiles(s.q.shape[1], s.k.shape[1], band.low, band.high, s.query_start, rows):
        if tiles.keys == 0:
            yield tiles, None
            continue
        for part, state in _alike(s, tiles):
            if state == "none":
                yield part, _ALL_MASKED
            elif state == "all":
                shared = _band_mask(s, band, part)
                yield from ((some, shared) for some in part.at_most(_blocks_at_once(s, part, backward)))
            else:
                limit = (MASK_BYTES if _fused(s) else PLAIN_BYTES // s.q.shape[0]) // (4 * part.rows * part.keys)
                yield from ((some, _own_masks(s, band, some)) for some in part.at_most(limit))


def _rows(s: Sequence, band: Band, backward: bool) -> int:
    per_token = (s.key_mask, s.q_segments, s.q_positions)
    if band.low is None and band.high is None and _fused(s) and all(x is None for x in per_token):
        return s.q.shape[1]
    return block_size(band.low, band.high, backward)


def _fused(s: Sequence) -> bool:
    return has_fused(s.q) and not s.dropout


def _blocks_at_once(s: Sequence, tiles: Tiles, backward: bool) -> int:
    heads, _, size = s.q.shape
    if not _fused(s):
        return PLAIN_BYTES // (4 * heads * tiles.rows * tiles.keys)
    return GRADIENT_BYTES // (4 * heads * tiles.keys * size) if backward else tiles.blocks


def _alike(s: Sequence, tiles: Tiles) -> Iterator[tuple[Tiles, str]]:
    """Runs of tiles whose keys are all real ("all"), none of them real ("none"), or mixed."""
    if s.q_segments is not None or s.q_positions is not None:
        yield tiles, "mixed"
    elif s.key_mask is None:
        yield tiles, "all"
    else:
        real = tiles.key_view(s.key_mask[None])[0].sum(-1).tolist()
        names = ["all" if n == tiles.keys else "none" if n == 0 else "mixed" for n in real]
        first = 0
        for b in range(1, tiles.blocks + 1):
            if b == tiles.blocks or names[b] != names[first]:
                yield tiles.split(first, b), names[first]
                first = b


def _band_mask(s: Sequence, band: Band, tiles: Tiles) -> Tensor | None:
    """What the band adds to the scores of a tile [1, 1, rows, keys], the same for every tile of a group."""
    shift = tiles.key_start - tiles.query_start - s.query_start
    low = None if band.low is None or shift - tiles.rows + 1 >= band.low else band.low - shift
    high = None if band.high is None or shift + tiles.keys - 1 <= band.high else band.high - shift
    if low is None and high is None:
        return None
    make = _cached_mask if tiles.rows * tiles.keys <= CACHED_MASK else _make_mask
    return make(tiles.rows, tiles.keys, low, high, _mask_dtype(s.q), s.q.device)


def _make_mask(
    rows: int, keys: int, low: int | None, high: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """MASKED wherever column - row lies outside low to high, else 0; [1, 1, rows, keys]."""
    outside = torch.zeros(rows, keys, dtype=torch.bool, device=device)
    everything = torch.ones_like(outside)
    if low is not None:
        outside |= everything.tril(low - 1)
    if high is not None:
        outside |= everything.triu(high + 1)
    return torch.zeros(1, 1, rows, keys, dtype=dtype, device=device).masked_fill_(outside, MASKED)


_cached_mask = lru_cache(maxsize=512)(_make_mask)


def _own_masks(s: Sequence, band: Band, tiles: Tiles) -> Tensor:
    """A mask for each tile [1, blocks, rows, keys]: band, key padding, segments, positions."""
    allowed = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=s.q.device)
    if s.q_positions is not None and s.k_positions is not None:
        distance = _keys_of(tiles, s.k_positions) - _queries_of(tiles, s.q_positions)
        allowed = _between(distance, band)
    elif (added := _band_mask(s, band, tiles)) is not None:
        allowed = added == 0
    if s.key_mask is not None:
        allowed = allowed & _keys_of(tiles, s.key_mask)
    if s.q_segments is not None and s.k_segments is not None:
        allowed = allowed & (_queries_of(tiles, s.q_segments) == _keys_of(tiles, s.k_segments))
    return _added(allowed.expand(1, tiles.blocks, tiles.rows, tiles.keys), s)


def _between(distance: Tensor, band: Band) -> Tensor:
    allowed = torch.ones_like(distance, dtype=torch.bool)
    if band.low is not None:
        allowed &= distance >= band.low
    if band.high is not None:
        allowed &= distance <= band.high
    return allowed


def _queries_of(tiles: Tiles, x: Tensor) -> Tensor:
    return tiles.query_view(x[None])[..., None]


def _keys_of(tiles: Tiles, x: Tensor) -> Tensor:
    return tiles.key_view(x[None])[:, :, None]


def _added(allowed: Tensor, s: Sequence) -> Tensor:
    return torch.zeros(allowed.shape, dtype=_mask_dtype(s.q), device=s.q.device).masked_fill_(~allowed, MASKED)


def _mask_dtype(q: Tensor) -> torch.dtype:
    """The fused operator wants masks in the dtype of q; others are too narrow for MASKED or slow to add."""
    return q.dtype if has_fused(q) or q.dtype.itemsize > 4 else torch.float32


def _keep(s: Sequence, tiles: Tiles) -> Tensor | None:
    """Which probabilities dropout leaves, [heads, blocks, rows, keys]."""
    if s.seed is None or s.q_index is None or s.k_index is None:
        return None
    device = s.q.device
    heads = torch.arange(s.first_head, s.first_head + s.q.shape[0], device=device)
    batch = torch.tensor(s.batch, device=device)
    return keep_mask(
        s.dropout, s.seed, batch, heads[:, None, None, None], _queries_of(tiles, s.q_index), _keys_of(tiles, s.k_index)
    )
