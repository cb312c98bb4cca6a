"""How a band is cut into tiles: blocks of queries, each with the one run of keys that it can see.

Work is pairs computed, so a block of b queries under a band of width w reads w + b - 1 keys: the useful share is
w / (w + b - 1). Blocks whose keys lie wholly inside the sequence look alike and form one group, read in place through
strided views; blocks at the edges get exactly the keys that exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gossamer.patterns import Band

__all__ = ["Tiles", "band_area", "band_tiles", "block_size", "block_tiles", "gathered_tiles"]

UNBOUNDED_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """`blocks` tiles: number b is queries query_start + b*step + [0, rows) by keys key_start + b*step + [0, keys)."""

    query_start: int
    rows: int
    key_start: int
    keys: int
    step: int
    blocks: int = 1

    def query_view(self, x: Tensor) -> Tensor:
        """[heads, length, size] as [heads, blocks, rows, size], in place."""
        return self._view(x, self.query_start, self.rows)

    def key_view(self, x: Tensor) -> Tensor:
        """[heads, length, size] as [heads, blocks, keys, size], in place, overlapping."""
        return self._view(x, self.key_start, self.keys)

    def _view(self, x: Tensor, start: int, length: int) -> Tensor:
        stride = x.stride(1)
        return x.as_strided(
            (x.shape[0], self.blocks, length, *x.shape[2:]),
            (x.stride(0), self.step * stride, stride, *x.stride()[2:]),
            x.storage_offset() + start * stride,
        )

    def add_keys(self, into: Tensor, grads: Tensor) -> None:
        """Add the gradients of the overlapping key view, [heads, blocks, keys, size], into [heads, length, size]."""
        for first in range(0, self.keys, self.step):
            part = grads[:, :, first : first + self.step]
            replace(self, key_start=self.key_start + first, keys=part.shape[2]).key_view(into).add_(part)

    def split(self, first: int, last: int) -> Tiles:
        """The tiles first to last alone."""
        shift = first * self.step
        return replace(
            self, query_start=self.query_start + shift, key_start=self.key_start + shift, blocks=last - first
        )

    def at_most(self, blocks: int) -> Iterator[Tiles]:
        """The same tiles in runs of at most so many."""
        for first in range(0, self.blocks, max(blocks, 1)):
            yield self.split(first, min(first + max(blocks, 1), self.blocks))


def band_tiles(
    queries: int, keys: int, low: int | None, high: int | None, query_start: int, rows: int
) -> Iterator[Tiles]:
    """Tiles that cover every query once and every pair of the band low <= j - (i + query_start) <= high.

    A query block that can see no key at all comes as a tile with keys = 0.
    """
    yield from _joined(_band_tiles(queries, keys, low, high, query_start, rows), rows)


def _band_tiles(
    queries: int, keys: int, low: int | None, high: int | None, query_start: int, rows: int
) -> Iterator[tuple[Tiles, bool]]:
    """Single tiles, and whether they look like all others inside the sequence."""
    for start in range(0, queries, rows):
        count = min(rows, queries - start)
        first = 0 if low is None else start + query_start + low
        last = keys if high is None else start + query_start + count + high
        inside = low is not None and high is not None and count == rows and first >= 0 and last <= keys
        yield _tile(start, count, first, last, keys, rows), inside


def _tile(start: int, count: int, first: int, last: int, keys: int, step: int) -> Tiles:
    """Queries start to start + count by keys first to last, as far as these exist."""
    first, last = min(max(first, 0), keys), max(min(last, keys), 0)
    return Tiles(query_start=start, rows=count, key_start=first, keys=max(last - first, 0), step=step)


def _joined(tiles: Iterable[tuple[Tiles, bool]], step: int) -> Iterator[Tiles]:
    """Tiles that look alike and follow each other as one group."""
    inner: Tiles | None = None
    for tile, inside in tiles:
        if inside and inner is not None and tile.query_start == inner.query_start + inner.blocks * step:
            inner = replace(inner, blocks=inner.blocks + 1)
            continue
        if inner is not None:
            yield inner
        inner = tile if inside else None
        if not inside:
            yield tile
    if inner is not None:
        yield inner


def block_tiles(queries: int, keys: int, band: Band, query_start: int, rows: int) -> Iterator[Tiles]:
    """Tiles that cover every query once and every pair of the band that lies in one block of its stride, or near it.

    No tile holds queries of two blocks, or keys that are not near its own; the same rows of all blocks form one group.
    """
    yield from _joined(_block_tiles(queries, keys, band, query_start, rows), band.stride)


def _block_tiles(queries: int, keys: int, band: Band, query_start: int, rows: int) -> Iterator[tuple[Tiles, bool]]:
    stride, (before, after) = band.stride, band.near
    assert band.low is not None
    assert band.high is not None
    blocks = range(query_start // stride * stride, query_start + queries, stride)
    # Of three blocks the second one is whole; of one or two, only some places may have queries.
    places = {
        place
        for block in blocks[:2]
        for place in range(max(query_start - block, 0) // rows * rows, min(stride, query_start + queries - block), rows)
    }
    for place in sorted(places):
        count = min(rows, stride - place)
        first = max(place + band.low, -before * stride)
        last = min(place + count + band.high, (after + 1) * stride)
        for block in blocks:
            start, stop = block + place - query_start, block + place + count - query_start
            inside = start >= 0 and stop <= queries and first < last and block + first >= 0 and block + last <= keys
            start, stop = max(start, 0), min(stop, queries)
            if start < stop:
                yield _tile(start, stop - start, block + first, block + last, keys, stride), inside


def gathered_tiles(
    at: Tensor, queries: int, low: int | None, high: int | None, query_start: int, rows: int
) -> Iterator[Tiles]:
    """Tiles over keys that were picked out, at rising indices `at`; low and high bound differences of indices."""
    starts = torch.arange(0, queries, rows, device=at.device)
    ends = (starts + rows).clamp(max=queries)
    first = torch.zeros_like(starts) if low is None else torch.searchsorted(at, starts + query_start + low)
    last = torch.full_like(starts, len(at)) if high is None else torch.searchsorted(at, ends + query_start + high)
    for start, end, one, other in zip(*(x.tolist() for x in (starts, ends, first, last)), strict=True):
        yield _tile(start, end - start, one, other, len(at), rows)


def band_area(
    queries: int, keys: int, low: int | None, high: int | None, query_start: int, rows: int
) -> tuple[int, int]:
    """How many groups of tiles `band_tiles` gives, and how many pairs they hold (as if the last block were whole)."""
    blocks = (queries + rows - 1) // rows
    started = blocks * keys if high is None else _reached(rows + query_start + high, blocks, rows, keys)
    left = 0 if low is None else _reached(query_start + low, blocks, rows, keys)
    if low is None or high is None:
        return blocks, (started - left) * rows
    first_inside = max(0, (rows - 1 - query_start - low) // rows)
    inside = max(0, min(queries // rows, (keys - query_start - high) // rows) - first_inside)
    return blocks - inside + min(inside, 1), (started - left) * rows


def _reached(first: int, blocks: int, rows: int, keys: int) -> int:
    """The sum over blocks b of first + b * rows, each clamped to 0 .. keys."""
    return _positive(first, blocks, rows) - _positive(first - keys, blocks, rows)


def _positive(first: int, blocks: int, rows: int) -> int:
    """The sum over blocks b of max(0, first + b * rows)."""
    skipped = min(max((rows - 1 - first) // rows, 0), blocks)
    return (blocks - skipped) * (2 * first + rows * (skipped + blocks - 1)) // 2


def block_size(low: int | None, high: int | None, backward: bool = False) -> int:
    """Rows of a tile, from measurements of torch's fused CPU attention (docs/LOG.md, 2026-11-23).

    Forward, few rows waste least; the backward pass wants longer ones.
    """
    if low is None or high is None:
        return UNBOUNDED_BLOCK
    width = high - low + 1
    if backward:
        return 64 if width < 192 else 192
    return 32 if width < 192 else 64
