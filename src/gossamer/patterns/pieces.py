"""What kernels and caches are told of a pattern: disjoint bands of pairs, and which tokens later queries still read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = ["ENDLESS", "Band", "Cells", "Kept", "Pieces", "outside"]

ENDLESS = 2**31 - 1
"""A stride that no position reaches: cells of its first block alone."""


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


@dataclass(frozen=True)
class Pieces:
    """Disjoint bands; with `flagged`, flagged tokens see all and are seen by all besides (then one band at most)."""

    bands: tuple[Band, ...] = ()
    flagged: bool = False


@dataclass(frozen=True)
class Cells:
    """The tokens at places `first` to `stop` of every block of `stride`; with `block` the last block's others, too."""

    stride: int
    first: int
    stop: int
    block: bool = False


@dataclass(frozen=True)
class Kept:
    """The tokens that queries still to come can see: the last `recent` of them, their own included, and cells.

    recent: None for all tokens.
    """

    recent: int | None = 0
    cells: tuple[Cells, ...] = ()

    def joined(self, other: Kept) -> Kept:
        """What either keeps; a block's own tokens are then so many recent ones."""
        recents = [one for kept in (self, other) for one in (kept.recent, *kept._blocks())]
        if None in recents:
            return Kept(None)
        cells = dict.fromkeys(replace(one, block=False) for one in (*self.cells, *other.cells))
        return Kept(max(one for one in recents if one is not None), tuple(one for one in cells if one.first < one.stop))

    def _blocks(self) -> list[int]:
        return [one.stride for one in self.cells if one.block]


def outside(window: Band, bands: tuple[Band, ...]) -> tuple[Band, ...]:
    """A window, and what causal bands have beside it."""
    return (window, *(left for band in bands for left in _outside(window, band)))


def _outside(window: Band, band: Band) -> Iterator[Band]:
    """A causal band without the window's pairs: as far back as that reaches, its gaps; farther back, everything."""
    assert window.low is not None
    assert band.high is not None
    reach = -window.low * window.dilation // band.dilation
    gaps = reach if band.low is None else min(reach, -band.low)
    if band.dilation % window.dilation and gaps >= -band.high:
        yield replace(band, low=-gaps, apart=window.dilation)
    if band.low is None or -band.low > reach:
        yield replace(band, high=min(band.high, -reach - 1))
