"""A pattern as disjoint pieces, each of which a kernel can compute on its own; pieces merge exactly by log-sum-exp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gossamer.patterns import Fixed, Full, Global, Pattern, PerHead, Strided, Union, Window

__all__ = ["Band", "HeadGroup", "compile_pattern", "pieces_from_numbers", "pieces_to_numbers", "why_not_pieces"]

UNBOUNDED = 2**62
"""Stands for no bound where only numbers are allowed."""

BAND_NUMBERS = 8

_WITH_PIECES = (Fixed, Full, Global, Strided, Window)


@dataclass(frozen=True, kw_only=True)
class Band:
    """Query position p sees key j when j - p = dilation * m with low <= m <= high; None is without a bound.

    With `apart`, j - p must besides be no multiple of it. With `stride`, positions lie in blocks of so many, of which
    first to stop are cells: only keys in cells are seen; or, `own_block`, only keys of the query's block that are none.
    A stride goes with a dilation of 1.
    """

    low: int | None
    high: int | None
    dilation: int = 1
    apart: int = 0
    stride: int = 0
    own_block: bool = False
    first: int = 0
    stop: int = 0

    @property
    def plain(self) -> bool:
        """Whether the bounds are all there is."""
        return self.dilation == 1 and not self.apart and not self.stride


@dataclass(frozen=True, kw_only=True)
class HeadGroup:
    """Heads start to stop share disjoint bands; with `flagged`, flagged tokens see all and are seen by all besides.

    Flags make two thin dense pieces: the unflagged queries against the flagged keys, and the flagged queries against
    all keys; the band (one at most) then leaves out flagged keys and flagged queries, so that the pieces stay disjoint.
    """

    start: int
    stop: int
    bands: tuple[Band, ...]
    flagged: bool = False


def compile_pattern(pattern: Pattern, heads: int) -> tuple[HeadGroup, ...]:
    """The pieces of a pattern, by groups of heads. Raises ValueError where there are none (see `why_not_pieces`)."""
    groups: list[HeadGroup] = []
    start = 0
    for part, count in pattern.groups if isinstance(pattern, PerHead) else ((pattern, heads),):
        bands, flagged = _pieces(part)
        groups.append(HeadGroup(start=start, stop=start + count, bands=bands, flagged=flagged))
        start += count
    return tuple(groups)


def why_not_pieces(pattern: Pattern) -> str | None:
    """Why this pattern has no disjoint pieces, or None where it has."""
    for part in [part for part, _ in pattern.groups] if isinstance(pattern, PerHead) else [pattern]:
        singles = part.parts if isinstance(part, Union) else (part,)
        for single in singles:
            if not isinstance(single, _WITH_PIECES):
                return f"of «{single}», a {type(single).__name__}, no pieces are known"
        if isinstance(part, Union) and not part.exact:
            return f"the union of {' and '.join(f'«{single}»' for single in singles)} has no exact pieces"
    return None


def pieces_to_numbers(groups: tuple[HeadGroup, ...]) -> list[int]:
    """The pieces as an operator of torch can take them; while compiling they may be symbols.

    Four numbers a group, the last of which says how many bands follow, of `BAND_NUMBERS` each.
    """
    numbers: list[int] = []
    for group in groups:
        numbers += [group.start, group.stop, int(group.flagged), len(group.bands)]
        for band in group.bands:
            low = -UNBOUNDED if band.low is None else band.low
            high = UNBOUNDED if band.high is None else band.high
            numbers += [low, high, band.dilation, band.apart, band.stride, int(band.own_block), band.first, band.stop]
    return numbers


def pieces_from_numbers(numbers: list[int]) -> tuple[HeadGroup, ...]:
    """What `pieces_to_numbers` wrote."""
    groups, place = [], 0
    while place < len(numbers):
        start, stop, flagged, count = numbers[place : place + 4]
        place += 4
        last = place + BAND_NUMBERS * count
        bands = tuple(_band(*numbers[at : at + BAND_NUMBERS]) for at in range(place, last, BAND_NUMBERS))
        groups.append(HeadGroup(start=start, stop=stop, bands=bands, flagged=bool(flagged)))
        place = last
    return tuple(groups)


def _band(low: int, high: int, dilation: int, apart: int, stride: int, own_block: int, first: int, stop: int) -> Band:
    return Band(
        low=None if low == -UNBOUNDED else low, high=None if high == UNBOUNDED else high, dilation=dilation,
        apart=apart, stride=stride, own_block=bool(own_block), first=first, stop=stop,
    )  # fmt: skip


def _pieces(pattern: Pattern) -> tuple[tuple[Band, ...], bool]:
    """Bands, and whether flagged tokens count."""
    if why := why_not_pieces(pattern):
        raise ValueError(why)
    parts = pattern.parts if isinstance(pattern, Union) else (pattern,)
    window = next((part for part in parts if isinstance(part, Window)), None)
    for part in parts:
        if isinstance(part, Strided):
            return tuple(_strided(part, window)), False
        if isinstance(part, Fixed):
            return tuple(_beside(window, *_fixed(part))), False
        if isinstance(part, Full):
            return (Band(low=None, high=0 if part.causal else None),), False
    return tuple(_beside(window)), Global() in parts


def _strided(pattern: Strided, window: Window | None) -> Iterator[Band]:
    """Local and column share the token itself and the one a stride before, which the local band gives."""
    stride = pattern.stride
    local, column = Band(low=-stride, high=0), Band(low=None, high=-2 if pattern.local else 0, dilation=stride)
    bands = [local] * pattern.local + [column] * pattern.column
    if window is not None and window.dilation == 1 and pattern.local:
        # Two bands that touch are one.
        window, bands = Window(max(window.before, stride), window.after), bands[1:]
    return _beside(window, *bands)


def _fixed(pattern: Fixed) -> Iterator[Band]:
    """The own block without its summary cells, and all summary cells."""
    first, stop = pattern.cells
    if pattern.block:
        yield Band(
            low=1 - pattern.stride, high=0, stride=pattern.stride, own_block=True, first=first, stop=stop
        )  # fmt: skip
    if first < stop:
        yield Band(low=None, high=0, stride=pattern.stride, first=first, stop=stop)


def _beside(window: Window | None, *bands: Band) -> Iterator[Band]:
    """The window, and what causal bands have beside it."""
    if window is None:
        yield from bands
        return
    yield Band(low=-window.before, high=window.after, dilation=window.dilation)
    for band in bands:
        yield from _outside(window, band)


def _outside(window: Window, band: Band) -> Iterator[Band]:
    """A causal band without the window's pairs: as far back as that reaches, its gaps; farther back, everything."""
    reach = window.before * window.dilation // band.dilation
    assert band.high is not None
    gaps = reach if band.low is None else min(reach, -band.low)
    if band.dilation % window.dilation and gaps >= -band.high:
        yield replace(band, low=-gaps, apart=window.dilation)
    if band.low is None or -band.low > reach:
        yield replace(band, high=min(band.high, -reach - 1))
