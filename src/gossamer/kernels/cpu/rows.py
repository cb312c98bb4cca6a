"""Who meets whom, as the kernel reads it: lists of rows in rising coordinates, and bounds on their differences.

A key is seen when the differences of two coordinates lie within bounds. The first coordinate rises along the lists, so
that a query's keys are one run. Documents and the residue classes of a dilation are stretches of it that lie too far
apart to meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.pieces import Band, HeadGroup

__all__ = ["FAR", "Piece", "RowList", "Tokens", "pieces_of"]

FAR = 2**40
"""Stands for no bound; what native/tiles.hpp calls FAR."""
MOST = 2**31 - 1
"""The largest coordinate."""

Bounds = tuple[int, int]
EVERYWHERE: Bounds = (-FAR, FAR)


@dataclass(frozen=True, kw_only=True)
class RowList:
    """Rows of every text one after the other, int32, and where each text's begin, int64. `index` None: all rows."""

    rows: int
    start: int = 0
    index: Tensor | None = None
    band: Tensor | None = None
    second: Tensor | None = None
    offsets: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some queries against some keys, of heads start to stop."""

    start: int
    stop: int
    queries: RowList
    keys: RowList
    band: Bounds = EVERYWHERE
    second: Bounds = EVERYWHERE


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What is known of the rows on one side, each [batch, rows]; None where nothing is."""

    rows: int
    start: int = 0
    real: Tensor | None = None
    flags: Tensor | None = None
    segments: Tensor | None = None
    positions: Tensor | None = None

    @property
    def unmarked(self) -> bool:
        """Whether nothing but flags tells these rows from one another."""
        return self.real is None and self.segments is None and self.positions is None


def pieces_of(group: HeadGroup, queries: Tokens, keys: Tokens, batch: int) -> Iterator[Piece]:
    """The pieces of a group of heads; disjoint, and together all pairs that see each other."""
    flagged = group.flagged and keys.flags is not None
    band = group.band
    if band is not None:
        if not flagged and queries.unmarked and keys.unmarked and band.dilation == 1:
            yield Piece(
                start=group.start,
                stop=group.stop,
                queries=RowList(rows=queries.rows, start=queries.start),
                keys=RowList(rows=keys.rows),
                band=_bounds(band),
            )
        else:
            yield _listed(group, band, *(_chosen(one, batch, False if flagged else None) for one in (queries, keys)))
    if flagged:
        alike = Band(low=None, high=None)
        yield _listed(group, alike, _chosen(queries, batch, False), _chosen(keys, batch, True))
        yield _listed(group, alike, _chosen(queries, batch, True), _chosen(keys, batch, None))


def _bounds(band: Band) -> Bounds:
    return (-FAR if band.low is None else band.low, FAR if band.high is None else band.high)


@dataclass(frozen=True)
class _Chosen:
    """The rows that take part: their text, index, place and document, all int64, one after another."""

    tokens: Tokens
    batch: int
    text: Tensor
    index: Tensor
    at: Tensor
    segment: Tensor | None


def _chosen(tokens: Tokens, batch: int, flagged: bool | None) -> _Chosen:
    """The real rows of all texts; `flagged`: those that are, or are not."""
    chosen = torch.ones(batch, tokens.rows, dtype=torch.bool) if tokens.real is None else tokens.real
    if flagged is not None:
        assert tokens.flags is not None
        chosen = chosen & (tokens.flags if flagged else ~tokens.flags)
    text, index = chosen.nonzero(as_tuple=True)
    at = index + tokens.start if tokens.positions is None else tokens.positions[text, index].long()
    segment = None if tokens.segments is None else tokens.segments[text, index].long()
    return _Chosen(tokens, batch, text, index, at, segment)


def _listed(group: HeadGroup, band: Band, queries: _Chosen, keys: _Chosen) -> Piece:
    """Both sides in stretches of (document, residue class), and in them by position."""
    numbers, count = _stretches(band.dilation, queries, keys)
    if band.low is None and band.high is None:
        first, second, bounds = numbers, None, ((0, 0), EVERYWHERE)
    else:
        steps = [torch.div(one.at, band.dilation, rounding_mode="floor") for one in (queries, keys)]
        first, second, bounds = _coordinates(numbers, count, steps, _bounds(band))
    lists = [_sorted(side, first[i], None if second is None else second[i]) for i, side in enumerate((queries, keys))]
    return Piece(start=group.start, stop=group.stop, queries=lists[0], keys=lists[1], band=bounds[0], second=bounds[1])


def _stretches(dilation: int, queries: _Chosen, keys: _Chosen) -> tuple[list[Tensor], int]:
    """For each row the number of its stretch, and how many stretches there are."""
    sides = (queries, keys)
    residues = [one.at.remainder(dilation) for one in sides]
    if queries.segment is None or keys.segment is None:
        return residues, dilation
    together = torch.cat([queries.segment, keys.segment])
    found, number = together.unique(return_inverse=True)
    numbers = number.split([len(queries.segment), len(keys.segment)])
    return [n * dilation + r for n, r in zip(numbers, residues, strict=True)], max(1, len(found)) * dilation


def _coordinates(
    numbers: list[Tensor], count: int, steps: list[Tensor], bounds: Bounds
) -> tuple[list[Tensor], list[Tensor] | None, tuple[Bounds, Bounds]]:
    """First and second coordinates of both sides and their bounds; one is enough where stretches can be laid apart."""
    together = torch.cat(steps)
    least, most = (int(together.min()), int(together.max())) if len(together) else (0, 0)
    if most - least > MOST:
        raise InputError(f"positions reach from {least} to {most}; the CPU kernel takes at most {MOST} between any two")
    steps = [one - least for one in steps]
    if count == 1:
        return steps, None, (bounds, EVERYWHERE)
    # No two steps are further apart than this, so bounds beyond it say the same.
    widest = most - least
    low, high = max(bounds[0], -widest), min(bounds[1], widest)
    span = widest + 1 + max(abs(low), abs(high))
    if count * span <= MOST:
        return [n * span + step for n, step in zip(numbers, steps, strict=True)], None, ((low, high), EVERYWHERE)
    return numbers, steps, ((0, 0), bounds)


def _sorted(side: _Chosen, band: Tensor, second: Tensor | None) -> RowList:
    """The rows by text, then by the first coordinate, then by the second."""
    order = torch.arange(len(band))
    for key in (second, band, side.text):
        if key is not None and len(band) and not bool((key[order].diff() >= 0).all()):
            order = order[key[order].argsort(stable=True)]
    counts = torch.bincount(side.text, minlength=side.batch)
    return RowList(
        rows=side.tokens.rows,
        index=side.index[order].int(),
        band=band[order].int(),
        second=None if second is None else second[order].int(),
        offsets=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
    )
