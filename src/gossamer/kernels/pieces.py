"""The pieces that a pattern tells, by groups of heads; each is computed alone, and all merge by log-sum-exp."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.errors import InputError, quote
from gossamer.patterns import Band, Hashes, Pattern, Pieces
from gossamer.patterns.head_groups import groups_of

__all__ = ["HeadGroup", "compile_pattern", "pieces_from_numbers", "pieces_to_numbers", "why_not_pieces"]

UNBOUNDED = 2**62
"""Stands for no bound where only numbers are allowed."""

BAND_NUMBERS = 10


@dataclass(frozen=True, kw_only=True)
class HeadGroup:
    """Heads start to stop share disjoint bands; with `flagged`, flagged tokens see all and are seen by all besides.

    Flags make two thin dense pieces: the unflagged queries against the flagged keys, and the flagged queries against
    all keys; the band (one at most) then leaves out flagged keys and flagged queries, so that the pieces stay disjoint.
    hashes: of a hashed pattern, whose pieces depend on buckets.
    """

    start: int
    stop: int
    bands: tuple[Band, ...]
    flagged: bool = False
    hashes: Hashes | None = None


def compile_pattern(pattern: Pattern, heads: int) -> tuple[HeadGroup, ...] | None:
    """The pieces of a pattern, by groups of heads; None where there are none (see `why_not_pieces`)."""
    groups: list[HeadGroup] = []
    start = 0
    for part, count in groups_of(pattern, heads):
        pieces = part.pieces()
        if pieces is None:
            return None
        if not isinstance(pieces, Pieces):
            raise InputError(f"pieces of '{part}' gave {quote(pieces)}; it must be gossamer.patterns.Pieces, or None")
        groups.append(
            HeadGroup(start=start, stop=start + count, bands=pieces.bands, flagged=pieces.flagged, hashes=pieces.hashes)
        )
        start += count
    return tuple(groups)


def why_not_pieces(pattern: Pattern) -> str | None:
    """Why this pattern has no disjoint pieces, or None where it has."""
    for part, _ in groups_of(pattern, 1):
        if part.pieces() is not None:
            continue
        for single in part.singles:
            if single.pieces() is None:
                return f"of «{single}», a {type(single).__name__}, no pieces are known"
        return f"the union of {' and '.join(f'«{single}»' for single in part.singles)} has no exact pieces"
    return None


def pieces_to_numbers(groups: tuple[HeadGroup, ...]) -> list[int]:
    """The pieces as an operator of torch can take them; while compiling they may be symbols.

    Four numbers a group, the last of which says how many bands follow, of `BAND_NUMBERS` each; below 0, of hashes, how
    many numbers, less 1.
    """
    numbers: list[int] = []
    for group in groups:
        if group.hashes is not None:
            of_hashes = group.hashes.numbers
            numbers += [group.start, group.stop, 0, -1 - len(of_hashes), *of_hashes]
            continue
        numbers += [group.start, group.stop, int(group.flagged), len(group.bands)]
        for band in group.bands:
            low = -UNBOUNDED if band.low is None else band.low
            high = UNBOUNDED if band.high is None else band.high
            blocks = band.stride, int(band.own_block), *band.near, band.first, band.stop
            numbers += [low, high, band.dilation, band.apart, *blocks]
    return numbers


def pieces_from_numbers(numbers: list[int]) -> tuple[HeadGroup, ...]:
    """What `pieces_to_numbers` wrote."""
    groups, place = [], 0
    while place < len(numbers):
        start, stop, flagged, count = numbers[place : place + 4]
        place += 4
        if count < 0:
            hashes = Hashes.from_numbers(numbers[place : place - count - 1])
            groups.append(HeadGroup(start=start, stop=stop, bands=(), hashes=hashes))
            place -= count + 1
            continue
        last = place + BAND_NUMBERS * count
        bands = tuple(_band(*numbers[at : at + BAND_NUMBERS]) for at in range(place, last, BAND_NUMBERS))
        groups.append(HeadGroup(start=start, stop=stop, bands=bands, flagged=bool(flagged)))
        place = last
    return tuple(groups)


def _band(
    low: int, high: int, dilation: int, apart: int, stride: int, own_block: int, before: int, after: int, first: int,
    stop: int,
) -> Band:  # fmt: skip
    return Band(
        low=None if low == -UNBOUNDED else low, high=None if high == UNBOUNDED else high, dilation=dilation,
        apart=apart, stride=stride, own_block=bool(own_block), near=(before, after), first=first, stop=stop,
    )  # fmt: skip
