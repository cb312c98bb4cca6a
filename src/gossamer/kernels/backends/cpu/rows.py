"""Who meets whom, as the kernel reads it: lists of rows in rising coordinates, and bounds on their differences.

A key is seen when the differences of two coordinates lie within bounds. The first coordinate rises along the lists, so
that a query's keys are one run. Documents, blocks and the residue classes of a dilation are stretches of it that lie
too far apart to meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.pieces import HeadGroup
from gossamer.kernels.token_values import UNMARKED, TokenValues
from gossamer.patterns import Band

__all__ = ["FAR", "Piece", "RowList", "Side", "pieces_of"]

FAR = 2**40
"""Stands for no bound; what native/tiles.hpp calls FAR."""
MOST = 2**31 - 1
"""The largest coordinate."""
CACHED_LISTS = 8
"""Lists that depend on lengths alone are kept from call to call."""

Bounds = tuple[int, int]
EVERYWHERE: Bounds = (-FAR, FAR)


@dataclass(frozen=True, kw_only=True)
class RowList:
    """Rows of every text one after the other, int32, and where each text's begin, int64. `index` None: all rows.

    `shared`: one list for all texts. `by_head`: one for each head of each text. met, [count, rows listed]: coordinates
    by which a pair has met elsewhere.
    """

    rows: int
    start: int = 0
    index: Tensor | None = None
    band: Tensor | None = None
    second: Tensor | None = None
    offsets: Tensor | None = None
    shared: bool = False
    by_head: bool = False
    met: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some queries against some keys, of heads start to stop."""

    start: int
    stop: int
    queries: RowList
    keys: RowList
    band: Bounds = EVERYWHERE
    second: Bounds = EVERYWHERE

    @property
    def listed(self) -> bool:
        """Whether rows of either side are listed."""
        return self.queries.index is not None or self.keys.index is not None


@dataclass(frozen=True, kw_only=True)
class Side:
    """How many rows one side has, where the first of them stands among the keys, and what is known of them."""

    rows: int
    start: int = 0
    known: TokenValues = UNMARKED


@dataclass(frozen=True, kw_only=True)
class _Lists:
    """Both sides of a band, the bounds of the first coordinate and those of the second: a piece for each of these."""

    queries: RowList
    keys: RowList
    band: Bounds
    seconds: tuple[Bounds, ...] = (EVERYWHERE,)

    def pieces(self, group: HeadGroup) -> Iterator[Piece]:
        for second in self.seconds:
            yield Piece(
                start=group.start, stop=group.stop, queries=self.queries, keys=self.keys, band=self.band, second=second
            )


def pieces_of(group: HeadGroup, queries: Side, keys: Side, batch: int) -> Iterator[Piece]:
    """The pieces of a group of heads; disjoint, and together all pairs that see each other."""
    flagged = group.flagged and keys.known.flags is not None
    for band in group.bands:
        if not flagged and queries.known.unmarked and keys.known.unmarked:
            yield from _unmarked(band, queries.rows, queries.start, keys.rows).pieces(group)
        else:
            sides = (_chosen(one, batch, band, False if flagged else None) for one in (queries, keys))
            yield from _listed(band, *sides).pieces(group)
    if flagged:
        alike = Band(low=None, high=None)
        yield from _listed(alike, _chosen(queries, batch, alike, False), _chosen(keys, batch, alike, True)).pieces(
            group
        )
        yield from _listed(alike, _chosen(queries, batch, alike, True), _chosen(keys, batch, alike, None)).pieces(group)


def _unmarked(band: Band, queries: int, start: int, keys: int) -> _Lists:
    """Where only their number is known of the rows: as few lists as possible, and those kept."""
    if band.plain:
        return _Lists(queries=RowList(rows=queries, start=start), keys=RowList(rows=keys), band=_bounds(band))
    return _cached(band, queries, start, keys)


@lru_cache(maxsize=CACHED_LISTS)
def _cached(band: Band, queries: int, start: int, keys: int) -> _Lists:
    of_keys = _all_of(Side(rows=keys), _candidates(band, queries, start, keys))
    if band.stride and not band.own_block and not band.apart:
        listed = replace(_sorted(of_keys, of_keys.at, None), shared=True)
        return _Lists(queries=RowList(rows=queries, start=start), keys=listed, band=_bounds(band))
    found = _listed(band, _all_of(Side(rows=queries, start=start), torch.arange(queries)), of_keys)
    return replace(found, queries=replace(found.queries, shared=True), keys=replace(found.keys, shared=True))


def _candidates(band: Band, queries: int, start: int, keys: int) -> Tensor:
    """Indices of the keys that some query may see, without looking at the others: a decoder asks for one row a time."""
    stop = keys if band.high is None else min(keys, start + queries + band.high * band.dilation)
    if band.stride and not band.own_block:
        blocks = torch.arange(-(-max(stop, 0) // band.stride))[:, None] * band.stride
        found = (blocks + torch.arange(band.first, max(band.first, min(band.stop, stop)))).flatten()
    elif band.dilation > queries:
        classes = (start + torch.arange(queries)) % band.dilation
        found = (classes[:, None] + torch.arange(0, max(stop, 0), band.dilation)).flatten()
    else:
        first = 0 if band.low is None else start + band.low * band.dilation
        found = torch.arange(max(first, 0), max(first, stop, 0))
    return found[found < stop]


def _all_of(side: Side, index: Tensor) -> _Chosen:
    """These rows of one text that is not marked."""
    return _Chosen(side, 1, torch.zeros_like(index), index, index + side.start, None)


def _bounds(band: Band) -> Bounds:
    return (-FAR if band.low is None else band.low, FAR if band.high is None else band.high)


@dataclass(frozen=True)
class _Chosen:
    """The rows that take part: their text, index, place and document, all int64, one after another."""

    side: Side
    batch: int
    text: Tensor
    index: Tensor
    at: Tensor
    segment: Tensor | None


def _chosen(side: Side, batch: int, band: Band, flagged: bool | None) -> _Chosen:
    """The real rows of all texts; `flagged`: those that are, or are not."""
    known = side.known
    chosen = torch.ones(batch, side.rows, dtype=torch.bool) if known.real is None else known.real
    if flagged is not None:
        assert known.flags is not None
        chosen = chosen & (known.flags if flagged else ~known.flags)
    text, index = chosen.nonzero(as_tuple=True)
    positions = known.places if band.stride and known.places is not None else known.positions
    at = index + side.start if positions is None else positions[text, index].long()
    segment = None if known.segments is None else known.segments[text, index].long()
    return _Chosen(side, batch, text, index, at, segment)


def _in_reach(band: Band, keys: _Chosen) -> _Chosen:
    """The keys that the band's cells leave."""
    if not band.stride or not band.stop:
        return keys
    place = keys.at.remainder(band.stride)
    kept = ((place >= band.first) & (place < band.stop)) != band.own_block
    text, index, at = keys.text[kept], keys.index[kept], keys.at[kept]
    return _Chosen(keys.side, keys.batch, text, index, at, None if keys.segment is None else keys.segment[kept])


def _listed(band: Band, queries: _Chosen, keys: _Chosen) -> _Lists:
    """Both sides in stretches of (document, residue class or block), and in them by position."""
    sides = (queries, _in_reach(band, keys))
    numbers, count = _stretches(band, *sides)
    if band.low is None and band.high is None:
        lists = [_sorted(side, first, None) for side, first in zip(sides, numbers, strict=True)]
        return _Lists(queries=lists[0], keys=lists[1], band=(0, 0))
    if band.near != (0, 0):
        return _near_blocks(band, sides, numbers, count)
    if band.own_block:
        steps = [one.at.remainder(band.stride) for one in sides]
    else:
        steps = [torch.div(one.at, band.dilation, rounding_mode="floor") for one in sides]
    first, second, bounds, seconds = _coordinates(numbers, count, steps, _bounds(band))
    if band.apart:
        if second is not None:
            raise _too_far_apart()
        # Another residue is a greater one or a smaller one.
        second = [one.at.remainder(band.apart) for one in sides]
        seconds = ((1 - band.apart, -1), (1, band.apart - 1))
    lists = [_sorted(side, first[i], None if second is None else second[i]) for i, side in enumerate(sides)]
    return _Lists(queries=lists[0], keys=lists[1], band=bounds, seconds=seconds)


def _near_blocks(band: Band, sides: tuple[_Chosen, _Chosen], numbers: list[Tensor], count: int) -> _Lists:
    """Both sides by document and block, and where later keys are not seen by position besides."""
    (before, after), size = band.near, band.stride
    blocks = [torch.div(one.at, size, rounding_mode="floor") for one in sides]
    first, second, bounds, seconds = _coordinates(numbers, count, blocks, (-before, after))
    assert band.low is not None
    assert band.high is not None
    if band.low > 1 - (before + 1) * size or band.high < (after + 1) * size - 1:
        least, most = _ends([one.at for one in sides])
        if second is not None or most - least > MOST:
            raise _too_far_apart()
        second, seconds = [one.at - least for one in sides], ((band.low, band.high),)
    lists = [_sorted(side, first[i], None if second is None else second[i]) for i, side in enumerate(sides)]
    return _Lists(queries=lists[0], keys=lists[1], band=bounds, seconds=seconds)


def _too_far_apart() -> InputError:
    return InputError("positions are too far apart for this pattern on the CPU kernel; try backend='reference'")


def _stretches(band: Band, queries: _Chosen, keys: _Chosen) -> tuple[list[Tensor], int]:
    """For each row the number of its stretch, and how many stretches there are."""
    sides = (queries, keys)
    numbers, count = [one.at.remainder(band.dilation) for one in sides], band.dilation
    if band.own_block and band.near == (0, 0):
        numbers = [torch.div(one.at, band.stride, rounding_mode="floor") for one in sides]
        least, most = _ends(numbers)
        numbers, count = [one - least for one in numbers], most - least + 1
    if queries.segment is not None and keys.segment is not None:
        documents, found = _numbered([queries.segment, keys.segment])
        numbers = [d * count + n for d, n in zip(documents, numbers, strict=True)]
        count *= found
    return numbers, count


def _numbered(values: list[Tensor]) -> tuple[list[Tensor], int]:
    """The rank of each value among those of both sides, and how many there are."""
    found, number = torch.cat(values).unique(return_inverse=True)
    return list(number.split([len(one) for one in values])), max(1, len(found))


def _ends(values: list[Tensor]) -> tuple[int, int]:
    together = torch.cat(values)
    return (int(together.min()), int(together.max())) if len(together) else (0, 0)


def _coordinates(
    numbers: list[Tensor], count: int, steps: list[Tensor], bounds: Bounds
) -> tuple[list[Tensor], list[Tensor] | None, Bounds, tuple[Bounds, ...]]:
    """First and second coordinates of both sides and their bounds; one is enough where stretches can be laid apart."""
    least, most = _ends(steps)
    if most - least > MOST:
        raise InputError(f"positions reach from {least} to {most}; the CPU kernel takes at most {MOST} between any two")
    steps = [one - least for one in steps]
    if count == 1:
        return steps, None, bounds, (EVERYWHERE,)
    # No two steps are further apart than this, so bounds beyond it say the same.
    widest = most - least
    low, high = max(bounds[0], -widest), min(bounds[1], widest)
    span = widest + 1 + max(abs(low), abs(high))
    if count * span > MOST:
        numbers, count = _numbered(numbers)
    if count * span <= MOST:
        first = [n * span + step for n, step in zip(numbers, steps, strict=True)]
        return first, None, (low, high), (EVERYWHERE,)
    return numbers, steps, (0, 0), (bounds,)


def _sorted(chosen: _Chosen, band: Tensor, second: Tensor | None) -> RowList:
    """The rows by text, then by the first coordinate, then by the second."""
    order = torch.arange(len(band))
    for key in (second, band, chosen.text):
        if key is not None and len(band) and not bool((key[order].diff() >= 0).all()):
            order = order[key[order].argsort(stable=True)]
    counts = torch.bincount(chosen.text, minlength=chosen.batch)
    return RowList(
        rows=chosen.side.rows,
        index=chosen.index[order].int(),
        band=band[order].int(),
        second=None if second is None else second[order].int(),
        offsets=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
    )
