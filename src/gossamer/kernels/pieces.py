"""A pattern as disjoint pieces, each of which a kernel can compute on its own; pieces merge exactly by log-sum-exp."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.patterns import Full, Global, Pattern, PerHead, Union, Window

__all__ = ["Band", "HeadGroup", "compile_pattern", "pieces_from_numbers", "pieces_to_numbers", "why_not_pieces"]

UNBOUNDED = 2**62
"""Stands for no bound where only numbers are allowed."""

NO_BAND = 0
"""As a dilation: the group has no band."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Query position p sees key j when j - p = dilation * m with low <= m <= high; None is without a bound."""

    low: int | None
    high: int | None
    dilation: int = 1


@dataclass(frozen=True, kw_only=True)
class HeadGroup:
    """Heads start to stop share one band; with `flagged`, flagged tokens see all and are seen by all besides.

    Flags make two thin dense pieces: the unflagged queries against the flagged keys, and the flagged queries against
    all keys; the band then leaves out flagged keys and flagged queries, so that the pieces stay disjoint.
    """

    start: int
    stop: int
    band: Band | None
    flagged: bool = False


def compile_pattern(pattern: Pattern, heads: int) -> tuple[HeadGroup, ...]:
    """The pieces of a pattern, by groups of heads. Raises ValueError where there are none (see `why_not_pieces`)."""
    groups: list[HeadGroup] = []
    start = 0
    for part, count in pattern.groups if isinstance(pattern, PerHead) else ((pattern, heads),):
        groups.append(_group(part, start, start + count))
        start += count
    return tuple(groups)


def why_not_pieces(pattern: Pattern) -> str | None:
    """Why this pattern has no disjoint pieces, or None where it has."""
    parts = [part for part, _ in pattern.groups] if isinstance(pattern, PerHead) else [pattern]
    for part in parts:
        if isinstance(part, Union) and not part.exact:
            return f"the union of {' and '.join(f'«{one}»' for one in part.parts)} has no exact pieces"
    return None


def pieces_to_numbers(groups: tuple[HeadGroup, ...]) -> list[int]:
    """The pieces as an operator of torch can take them, six numbers a group; while compiling they may be symbols."""
    numbers = []
    for group in groups:
        band = group.band or Band(low=0, high=0, dilation=NO_BAND)
        low = -UNBOUNDED if band.low is None else band.low
        high = UNBOUNDED if band.high is None else band.high
        numbers += [group.start, group.stop, int(group.flagged), low, high, band.dilation]
    return numbers


def pieces_from_numbers(numbers: list[int]) -> tuple[HeadGroup, ...]:
    """What `pieces_to_numbers` wrote."""
    groups = []
    for start, stop, flagged, low, high, dilation in zip(*(iter(numbers),) * 6, strict=True):
        band = Band(
            low=None if low == -UNBOUNDED else low, high=None if high == UNBOUNDED else high, dilation=dilation
        )  # fmt: skip
        found = None if dilation == NO_BAND else band
        groups.append(HeadGroup(start=start, stop=stop, band=found, flagged=bool(flagged)))
    return tuple(groups)


def _group(pattern: Pattern, start: int, stop: int) -> HeadGroup:
    if isinstance(pattern, Union):
        if why := why_not_pieces(pattern):
            raise ValueError(why)
        bands = [part for part in pattern.parts if not isinstance(part, Global)]
        return HeadGroup(start=start, stop=stop, band=_band(bands[0]), flagged=True)
    if isinstance(pattern, Global):
        return HeadGroup(start=start, stop=stop, band=None, flagged=True)
    return HeadGroup(start=start, stop=stop, band=_band(pattern))


def _band(pattern: Pattern) -> Band:
    if isinstance(pattern, Full):
        return Band(low=None, high=0 if pattern.causal else None)
    if isinstance(pattern, Window):
        return Band(low=-pattern.before, high=pattern.after, dilation=pattern.dilation)
    raise ValueError(f"no pieces are known for {pattern}")
