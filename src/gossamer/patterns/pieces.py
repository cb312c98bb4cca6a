"""What kernels and caches are told of a pattern: disjoint bands of pairs, and which tokens later queries still read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from gossamer.errors import InputError, quote
from gossamer.patterns.hashes import Hashes

__all__ = ["ENDLESS", "Band", "Cells", "Kept", "Pieces", "outside"]

ENDLESS = 2**31 - 1
"""A stride that no position reaches: cells of its first block alone."""
INTEGER = (int, torch.SymInt)
"""What a whole number is: in a traced program a symbol."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Query position p sees key j when j - p = dilation * m with low <= m <= high; None is without a bound.

    With `apart`, j - p must besides be no multiple of it. With `stride`, positions lie in blocks of so many, of which
    first to stop are cells: only keys in cells are seen; or, `own_block`, only keys of the query's block that are none,
    or, `near`, without cells, of so many blocks before it and after it, too. A stride goes with a dilation of 1. Raises
    InputError for numbers that say none of this.
    """

    low: int | None
    high: int | None
    dilation: int = 1
    apart: int = 0
    stride: int = 0
    own_block: bool = False
    near: tuple[int, int] = (0, 0)
    first: int = 0
    stop: int = 0

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        numbers = (*bounds, self.dilation, self.apart, self.stride, *self.near, self.first, self.stop)
        if not all(isinstance(number, INTEGER) for number in numbers) or not self._is_sound(len(bounds)):
            raise InputError(
                f"{self}: low and high must be whole numbers or None, dilation 1 or more, apart 0 or more; a stride "
                "goes with a dilation of 1 and with cells, 0 <= first < stop <= stride; own_block with a stride, low, "
                "high, and cells, or none and blocks that are near"
            )

    def _is_sound(self, bounds: int) -> bool:
        has_cells, has_none = 0 <= self.first < self.stop <= self.stride, self.first == self.stop == 0
        is_alone = self.near == (0, 0)
        if self.own_block:
            blocks = bounds == 2 and self.stride > 0 and (has_none or (has_cells and is_alone))
        else:
            blocks = is_alone and (has_cells or (has_none and self.stride == 0))
        counts = min(*self.near, self.apart) >= 0 and self.dilation >= 1
        return blocks and counts and (self.dilation == 1 or not self.stride)

    @property
    def plain(self) -> bool:
        """Whether the bounds are all there is."""
        return self.dilation == 1 and not self.apart and not self.stride


@dataclass(frozen=True)
class Pieces:
    """Disjoint bands; with `flagged`, flagged tokens see all and are seen by all besides (then one band at most).

    hashes: of a hashed pattern, which has neither.
    """

    bands: tuple[Band, ...] = ()
    flagged: bool = False
    hashes: Hashes | None = None

    def __post_init__(self) -> None:
        are_bands = isinstance(self.bands, tuple) and all(isinstance(band, Band) for band in self.bands)
        is_hashed = self.hashes is not None
        if not are_bands or (self.flagged and len(self.bands) > 1) or (is_hashed and (self.bands or self.flagged)):
            raise InputError(
                f"Pieces: bands is {quote(self.bands)} and flagged {self.flagged}; it must be a tuple of bands, of one "
                "at most where flagged, and of none beside hashes"
            )


@dataclass(frozen=True)
class Cells:
    """The tokens at places `first` to `stop` of every block of `stride`; with `block` the last block's others, too."""

    stride: int
    first: int
    stop: int
    block: bool = False

    def __post_init__(self) -> None:
        numbers = (self.stride, self.first, self.stop)
        if (
            not all(isinstance(number, INTEGER) for number in numbers)
            or not 0 <= self.first <= self.stop <= self.stride
        ):
            raise InputError(f"{self}: these must be whole numbers, 0 <= first <= stop <= stride")


@dataclass(frozen=True)
class Kept:
    """The tokens that queries still to come can see: the last `recent` of them, their own included, and cells.

    recent: None for all tokens.
    """

    recent: int | None = 0
    cells: tuple[Cells, ...] = ()

    def __post_init__(self) -> None:
        are_cells = isinstance(self.cells, tuple) and all(isinstance(one, Cells) for one in self.cells)
        if not are_cells or (self.recent is not None and (not isinstance(self.recent, INTEGER) or self.recent < 0)):
            raise InputError(f"{self}: recent must be None or 0 or more, cells a tuple of Cells")

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
