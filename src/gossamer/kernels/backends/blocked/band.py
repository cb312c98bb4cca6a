"""One band for one sequence: the forward and backward pass over its tiles.

A dilated band is `dilation` plain bands, each over every dilation-th token, read in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from gossamer.kernels.backends.blocked.sequence import Sequence, Sums
from gossamer.kernels.backends.blocked.tile_attention import MASKED, Rows, backward_tiles, forward_tiles, has_fused
from gossamer.kernels.backends.blocked.tile_distances import add_to_table, distance_strip
from gossamer.kernels.backends.blocked.tile_masks import band_mask, kept, own_masks
from gossamer.kernels.backends.blocked.tiles import Tiles, band_tiles, block_size, block_tiles, gathered_tiles
from gossamer.patterns import Band

__all__ = ["band_backward", "band_forward"]

PLAIN_BYTES = 64 * 2**20
"""Plain operations write the scores of a tile to memory: so many bytes of them at once."""

GRADIENT_BYTES = 4 * 2**20
"""The backward pass writes the gradients of overlapping keys to memory before it adds them: so many bytes at once."""

TABLE_ROWS = 128
"""Rows of a tile of all keys to which a table by distance adds a number for each pair: more leave the caches."""

MASK_BYTES = 32 * 2**20
"""Tiles that need masks of their own get so many bytes of them at once."""


def band_forward(s: Sequence, band: Band, out: Tensor, lse: Tensor) -> None:
    """Write the band's attention into `out` [heads, queries, size] and its log-sum-exp into `lse` [heads, queries].

    Rows that see nothing get a log-sum-exp below NOTHING_SEEN and some finite output.
    """
    fused = has_fused(s.q) and not s.dropout
    for part, queries, _ in _residues(s, band.dilation):
        out_part, lse_part = out[:, queries], lse[:, queries]
        for tiles, mask in _masked_tiles(part, band, fused, backward=False):
            if tiles.keys == 0:
                tiles.query_view(out_part).zero_()
                tiles.query_view(lse_part).fill_(MASKED)
                continue
            q, k, v = tiles.query_view(part.q), tiles.key_view(part.k), tiles.key_view(part.v)
            tile_out, tile_lse = forward_tiles(q, k, v, mask, s.scale, kept(part, tiles), s.dropout)
            tiles.query_view(out_part).copy_(tile_out)
            tiles.query_view(lse_part).copy_(tile_lse)


def band_backward(s: Sequence, band: Band, rows: Rows, grads: Sums) -> None:
    """Add the band's gradients to `grads`; `rows` holds the final output and log-sum-exp of the whole pattern."""
    table_learns = grads.table is not None
    fused = has_fused(s.q) and not s.dropout and rows.grad_lse is None and not table_learns
    for part, queries, keys in _residues(s, band.dilation):
        into, rows_part = grads.at(queries, keys), rows.at((slice(None), queries))
        for tiles, mask in _masked_tiles(part, band, fused, backward=True):
            if tiles.keys == 0:
                continue
            q, k, v = tiles.query_view(part.q), tiles.key_view(part.k), tiles.key_view(part.v)
            tile_rows = rows_part.map(tiles.query_view)
            grad_q, grad_k, grad_v, of_mask = backward_tiles(
                q, k, v, tile_rows, mask, s.scale, kept(part, tiles), s.dropout, table_learns
            )
            tiles.query_view(into.q).add_(grad_q)
            tiles.add_keys(into.k, grad_k)
            tiles.add_keys(into.v, grad_v)
            if grads.table is not None and of_mask is not None:
                add_to_table(grads.table, part, tiles, of_mask)


def _residues(s: Sequence, dilation: int) -> Iterator[tuple[Sequence, slice, slice]]:
    if dilation == 1:
        yield s, slice(None), slice(None)
        return
    for first in range(min(dilation, s.q.shape[1])):
        yield s.every(dilation, first)


def _masked_tiles(s: Sequence, band: Band, fused: bool, backward: bool) -> Iterator[tuple[Tiles, Tensor | None]]:
    """Tiles of the band with what is added to their scores; those in which nobody sees anybody have no keys."""
    for group in _tiles(s, band, _rows(s, band, fused, backward)):
        for tiles, alike in _alike(s, group):
            shared = band_mask(s, band, tiles) if alike and tiles.keys else None
            strip = distance_strip(s, tiles) if s.is_even and tiles.keys else None
            for some in tiles.at_most(_at_once(s, tiles, fused, backward, masks=not alike)):
                mask = shared if alike else own_masks(s, band, some)
                yield some, _sum(mask, strip if s.is_even or not tiles.keys else distance_strip(s, some))


def _sum(mask: Tensor | None, strip: Tensor | None) -> Tensor | None:
    return mask if strip is None else strip if mask is None else mask + strip


def _tiles(s: Sequence, band: Band, rows: int) -> Iterator[Tiles]:
    queries, keys, low, high = s.q.shape[1], s.k.shape[1], band.low, band.high
    if s.queries.positions is not None and high is not None and high < 0:
        # Positions may jump: all that is known of an earlier one is that its index is lower.
        high = -1
    if s.gathered is not None:
        return gathered_tiles(s.gathered, queries, low, high, s.query_start, rows)
    if band.own_block and s.queries.positions is None:
        return block_tiles(queries, keys, band, s.query_start, rows)
    return band_tiles(queries, keys, low, high, s.query_start, rows)


def _rows(s: Sequence, band: Band, fused: bool, backward: bool) -> int:
    """Rows of a tile: what `block_size` says, where tiles are limited by the band; else what fits into memory."""
    rows = block_size(band.low, band.high, backward)
    if band.low is not None and band.high is not None:
        return rows
    if s.table is not None:
        rows = min(rows, TABLE_ROWS)
    if not fused or s.table is not None:
        return max(1, min(rows, PLAIN_BYTES // (4 * max(1, s.q.shape[0] * s.k.shape[1]))))
    return max(1, s.q.shape[1]) if s.keys.unmarked and band.low is None and band.high is None else rows


def _alike(s: Sequence, tiles: Tiles) -> Iterator[tuple[Tiles, bool]]:
    """Runs of tiles, and whether one mask serves all of a run: all its keys are real, or none is and it has no keys."""
    if tiles.keys == 0 or s.keys.unmarked:
        yield tiles, True
    elif s.keys.real is None or s.keys.segments is not None or s.keys.positions is not None:
        yield tiles, False
    else:
        real: list[int] = tiles.key_view(s.keys.real[None])[0].sum(-1).tolist()
        kinds = [n if n in (0, tiles.keys) else -1 for n in real]
        first = 0
        for last in range(1, tiles.blocks + 1):
            if last == tiles.blocks or kinds[last] != kinds[first]:
                run = tiles.split(first, last)
                yield (replace(run, keys=0) if kinds[first] == 0 else run), kinds[first] >= 0
                first = last


def _at_once(s: Sequence, tiles: Tiles, fused: bool, backward: bool, masks: bool) -> int:
    """How many tiles to compute in one call, so that what it writes to memory stays small."""
    heads, _, size = s.q.shape
    pairs = max(1, tiles.rows * tiles.keys)
    limits = [tiles.blocks]
    if masks or not s.is_even:
        limits.append(MASK_BYTES // (4 * pairs * (1 if s.table is None else heads)))
    if not fused:
        limits.append(PLAIN_BYTES // (4 * heads * pairs))
    elif backward:
        limits.append(GRADIENT_BYTES // max(1, 4 * heads * tiles.keys * size))
    return max(1, min(limits))
