"""What blocked attention cannot do, and what it costs beside dense attention."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.kernels.backend import Backend, Cost
from gossamer.kernels.backends.blocked.attention import blocked
from gossamer.kernels.backends.blocked.hashed import hashed, why_not_hashed
from gossamer.kernels.backends.blocked.tiles import band_area, block_size
from gossamer.kernels.backends.dense import dense_pairs
from gossamer.kernels.inputs import Inputs, tracing
from gossamer.kernels.operator import why_no_bias, why_no_operator
from gossamer.kernels.pieces import HeadGroup
from gossamer.patterns import Band, Full

__all__ = ["BLOCKED", "tile_cost", "why_not_positions"]

# What blocked attention costs beside its pairs, in pairs of dense attention; fitted by benchmarks/crossover.py on two
# cores of a Xeon with AVX-512 (docs/LOG.md, 2026-11-23), where the choice then costs at most 6% over the faster one.
CALL = 200_000
GROUP_OF_TILES = 16_000
NARROW_TILE = 45
"""A tile of k keys runs at k / (k + NARROW_TILE) of the rate of dense attention."""


def tile_cost(inputs: Inputs) -> Cost:
    """By calls and tiles; no loop over them, so that lengths may be symbols."""
    has_table = inputs.distance_bias is not None
    if (
        not has_table
        and inputs.is_plain
        and inputs.pattern.covers(inputs.num_queries, inputs.num_keys, inputs.query_start)
    ):
        return Cost(pairs=None, if_more=("full attention", "no pair to leave out"))
    assert inputs.groups is not None
    if inputs.buckets is not None:
        return Cost(pairs=0)
    pairs = CALL + inputs.q.shape[0] * sum(_group_cost(inputs, group) for group in inputs.groups)
    words = f"{pairs:,} pairs in tiles, {dense_pairs(inputs):,} dense ones" if not tracing() else _UNCOUNTED
    words += ", for which the table is written out" if has_table else ""
    return Cost(
        pairs=pairs,
        if_less=(words, "slower: it computes every pair"),
        if_more=(words, "slower on so short an input"),
    )


_UNCOUNTED = "pairs in tiles against dense pairs"


def _group_cost(inputs: Inputs, group: HeadGroup) -> int:
    return sum(_band_cost(inputs, band, group.stop - group.start) for band in group.bands)


def _band_cost(inputs: Inputs, band: Band, heads: int) -> int:
    low, high, step = band.low, band.high, band.dilation
    queries, keys = (inputs.num_queries + step - 1) // step, (inputs.num_keys + step - 1) // step
    groups, pairs = band_area(queries, keys, low, high, inputs.query_start // step, block_size(low, high))
    if band.stride and not band.own_block:
        pairs = pairs * (band.stop - band.first) // band.stride
    return step * ((pairs + NARROW_TILE * queries) * heads + GROUP_OF_TILES * groups)


def why_not_positions(inputs: Inputs) -> str | None:
    """A window over positions is a band of indices only where positions rise by one or more from token to token."""
    queries, keys = inputs.queries, inputs.keys
    if queries.positions is None or keys.positions is None or inputs.pattern == Full():
        return None
    if any(band.dilation > 1 for group in inputs.groups or () for band in group.bands):
        return "a dilated window over positions, or a column of Strided, is no band of indices"
    if tracing():
        return "positions cannot be looked at while compiling"
    own = slice(inputs.query_start, inputs.query_start + inputs.num_queries)
    if not torch.equal(queries.positions, keys.positions[:, own]):
        return "positions differ between queries and keys"
    steps = keys.positions.diff(dim=1)
    if queries.segments is not None and keys.segments is not None:
        if not torch.equal(queries.segments, keys.segments[:, own]) or not _in_one_piece(keys.segments):
            return "positions of documents that lie in several pieces are no band of indices"
        steps = steps.masked_fill(keys.segments.diff(dim=1) != 0, 1)
    return None if bool((steps >= 1).all()) else "positions do not rise from token to token"


def _in_one_piece(segments: Tensor) -> bool:
    """Whether each document's tokens lie next to each other, in every row."""
    runs, ids = ((x.diff(dim=1) != 0).sum(1) for x in (segments, segments.sort(dim=1).values))
    return torch.equal(runs, ids)


def _why_not(inputs: Inputs) -> str | None:
    if inputs.buckets is not None:
        return why_not_hashed(inputs) or why_no_bias(inputs)
    return why_no_operator(inputs) or why_not_positions(inputs)


def _run(inputs: Inputs) -> tuple[Tensor, Tensor]:
    return blocked(inputs) if inputs.buckets is None else hashed(inputs)


BLOCKED = Backend(name="blocked", why_not=_why_not, cost=tile_cost, run=_run)
