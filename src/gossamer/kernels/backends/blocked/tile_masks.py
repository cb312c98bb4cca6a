"""What is added to the scores of tiles (0 or MASKED), and which of their probabilities dropout leaves."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from gossamer.kernels.backends.blocked.sequence import Sequence
from gossamer.kernels.backends.blocked.tile_attention import MASKED
from gossamer.kernels.backends.blocked.tiles import Tiles
from gossamer.kernels.dropout import keep_mask
from gossamer.patterns import Band

__all__ = ["band_mask", "by_positions", "in_own_block", "kept", "own_masks"]

CACHED_MASK = 2**18
"""Masks of at most so many pairs are kept from call to call."""


def band_mask(s: Sequence, band: Band, tiles: Tiles) -> Tensor | None:
    """The band alone, [1, 1, rows, keys]: the same for every tile of a group. None: the whole tile lies in the band.

    Tiles of the own block hold keys of that block, and of those near it, alone.
    """
    shift = tiles.key_start - tiles.query_start - s.query_start
    low = None if band.low is None or shift - tiles.rows + 1 >= band.low else band.low - shift
    high = None if band.high is None or shift + tiles.keys - 1 <= band.high else band.high - shift
    if low is None and high is None and not band.apart and not band.stop:
        return None
    steps = band.apart // math.gcd(band.apart, band.dilation)
    apart = (steps, shift % steps) if steps else (0, 0)
    shape, place = (tiles.rows, tiles.keys), tiles.key_start % band.stride if band.stop else 0
    make = _cached_mask if tiles.rows * tiles.keys <= CACHED_MASK else _make_mask
    return make(shape, low, high, apart, (band.first - place, band.stop - place), s.q.dtype, s.q.device)


def own_masks(s: Sequence, band: Band, tiles: Tiles) -> Tensor:
    """A mask for each tile, [1, blocks, rows, keys]: band, key padding, segments, positions."""
    allowed = torch.ones(1, tiles.blocks, tiles.rows, tiles.keys, dtype=torch.bool, device=s.q.device)
    queries, keys = s.queries, s.keys
    if queries.positions is not None and keys.positions is not None:
        allowed &= by_positions(band, _of_queries(tiles, queries.positions), _of_keys(tiles, keys.positions))
    elif (added := band_mask(s, band, tiles)) is not None:
        allowed &= added == 0
    if keys.real is not None:
        allowed &= _of_keys(tiles, keys.real)
    if queries.segments is not None and keys.segments is not None:
        allowed &= _of_queries(tiles, queries.segments) == _of_keys(tiles, keys.segments)
    added = torch.zeros(allowed.shape, dtype=s.q.dtype, device=s.q.device)
    return added.masked_fill_(~allowed, MASKED)


def kept(s: Sequence, tiles: Tiles) -> Tensor | None:
    """Which probabilities dropout leaves, [heads, blocks, rows, keys]. None: all."""
    if s.seed is None or s.q_index is None or s.k_index is None:
        return None
    device = s.q.device
    batch = torch.tensor(s.batch, device=device)
    heads = torch.arange(s.first_head, s.first_head + s.q.shape[0], device=device)[:, None, None, None]
    return keep_mask(s.dropout, s.seed, batch, heads, _of_queries(tiles, s.q_index), _of_keys(tiles, s.k_index))


def by_positions(band: Band, queries: Tensor, keys: Tensor) -> Tensor:
    """Which pairs lie in a band that is not dilated."""
    distance = keys - queries
    allowed = torch.ones_like(distance, dtype=torch.bool)
    if band.low is not None:
        allowed &= distance >= band.low
    if band.high is not None:
        allowed &= distance <= band.high
    if band.apart:
        allowed = allowed & (distance % band.apart != 0)
    return allowed & in_own_block(band, queries, keys) if band.own_block else allowed


def in_own_block(band: Band, queries: Tensor, keys: Tensor) -> Tensor:
    """Which keys lie in the query's block, beside its cells, or near it."""
    place = keys.remainder(band.stride)
    apart = keys - place - (queries - queries.remainder(band.stride))
    before, after = band.near
    same = apart == 0 if band.near == (0, 0) else (apart >= -before * band.stride) & (apart <= after * band.stride)
    return same & ~((place >= band.first) & (place < band.stop))


def _make_mask(
    shape: tuple[int, int], low: int | None, high: int | None, apart: tuple[int, int], cells: tuple[int, int],
    dtype: torch.dtype, device: torch.device,
) -> Tensor:  # fmt: skip
    """0, and MASKED wherever a key is out of bounds; [1, 1, rows, keys].

    Out of bounds is: column - row outside low to high; column - row + apart[1] a multiple of apart[0]; a column in
    cells[0] to cells[1].
    """
    outside = torch.zeros(shape, dtype=torch.bool, device=device)
    everything = torch.ones_like(outside)
    if low is not None:
        outside |= everything.tril(low - 1)
    if high is not None:
        outside |= everything.triu(high + 1)
    if apart[0]:
        rows, columns = (torch.arange(length, device=device) for length in shape)
        outside |= (columns - rows[:, None] + apart[1]) % apart[0] == 0
    outside[:, max(cells[0], 0) : max(cells[1], 0)] = True
    return torch.zeros(1, 1, *shape, dtype=dtype, device=device).masked_fill_(outside, MASKED)


_cached_mask = lru_cache(maxsize=64)(_make_mask)


def _of_queries(tiles: Tiles, x: Tensor) -> Tensor:
    return tiles.query_view(x[None])[..., None]


def _of_keys(tiles: Tiles, x: Tensor) -> Tensor:
    return tiles.key_view(x[None])[:, :, None]
