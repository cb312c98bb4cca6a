"""A pattern as disjoint pieces, each of which a kernel can compute on its own; pieces merge exactly by log-sum-exp."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gossamer.patterns import Full, Global, Pattern, PerHead, Union, Window

__all__ = ["Band", "HeadGroup", "compile_pattern", "pieces_from_text", "pieces_to_text", "why_not_pieces"]


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


def pieces_to_text(groups: tuple[HeadGroup, ...]) -> str:
    """The pieces as an operator of torch can take them; torch.compile can read along."""
    return ";".join(
        f"{group.start},{group.stop},{int(group.flagged)}"
        + (f",{group.band.low},{group.band.high},{group.band.dilation}" if group.band is not None else "")
        for group in groups
    )


@lru_cache(maxsize=1024)
def pieces_from_text(text: str) -> tuple[HeadGroup, ...]:
    """What `pieces_to_text` wrote."""
    groups = []
    for part in text.split(";"):
        start, stop, flagged, *band = (None if number == "None" else int(number) for number in part.split(","))
        assert start is not None
        assert stop is not None
        groups.append(
            HeadGroup(start=start, stop=stop, band=_read_band(*band) if band else None, flagged=bool(flagged))
        )
    return tuple(groups)


def _read_band(low: int | None, high: int | None, dilation: int | None) -> Band:
    return Band(low=low, high=high, dilation=dilation or 1)


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
