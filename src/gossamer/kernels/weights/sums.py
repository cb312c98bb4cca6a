"""Attention weights summed up over blocks of queries and keys, and over kinds of pairs: what a picture shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.inputs import Inputs, make_inputs
from gossamer.kernels.precision import wide
from gossamer.kernels.weights.on_demand import choose_rows, refuse_unshown
from gossamer.kernels.weights.row_sums import NOTHING, RowSum, to_weights
from gossamer.kernels.weights.walk import Block, walk
from gossamer.patterns import Pattern

__all__ = ["Bins", "WeightSums", "weight_sums"]

Kind = Callable[[Tensor, Tensor], Tensor]
"""Of queries [rows] and keys [keys], by their indices: which kind each pair is, whole numbers [rows, keys]."""


@dataclass(frozen=True, kw_only=True)
class Bins:
    """What is summed up: the block of each query and each key, and the kind of a pair, both from 0."""

    queries: Int[Tensor, "queries"]
    keys: Int[Tensor, "keys"]
    kind: Kind
    kinds: int
    shape: tuple[int, int]
    """Blocks of queries, and of keys."""


@dataclass(frozen=True, kw_only=True)
class WeightSums:
    """Sums over all visible pairs of one text: of weights, and of the pairs themselves, in float32 or wider."""

    blocks: Float[Tensor, "heads query_blocks key_blocks"]
    pairs: Float[Tensor, "heads query_blocks key_blocks"]
    kinds: Float[Tensor, "heads kinds"]

    def __add__(self, other: WeightSums) -> WeightSums:
        return WeightSums(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})


@torch.no_grad()
def weight_sums(
    q: Float[Tensor, "1 heads queries size"],
    k: Float[Tensor, "1 key_heads keys size"],
    pattern: Pattern,
    bins: Bins,
    *,
    rows: Int[Tensor, "rows"] | None = None,
    lse: Tensor | None = None,
    **options: Any,
) -> WeightSums:
    """The exact weights of one text, summed up block by block while they are computed; all queries, or some `rows`.

    Other arguments and errors are those of `attention_rows`. Work grows with the visible pairs; memory beside the sums
    does not grow with the text.
    """
    refuse_unshown(pattern)
    inputs = make_inputs(q, k, k, pattern, **options)
    chosen = choose_rows(rows, 1, inputs.num_queries, inputs.q.device)[0]
    shape = (inputs.q.shape[1], *bins.shape)
    blocks = inputs.q.new_zeros(shape, dtype=wide(inputs.q))
    pairs, kinds = torch.zeros_like(blocks), blocks.new_zeros(len(blocks), bins.kinds)
    sums = WeightSums(blocks=blocks, pairs=pairs, kinds=kinds)
    with autocast_off(inputs.q):
        total = _totals(inputs, chosen) if lse is None else RowSum.of_lse(lse[0][:, chosen])
        for block in walk(inputs, 0, chosen):
            # What heads can see differs where numbers that are added hide some of it.
            alike = inputs.bias is None and inputs.distance_bias is None
            _add(sums, block, bins, total, chosen, alike)
    return sums


def _totals(inputs: Inputs, chosen: Tensor) -> RowSum:
    total = RowSum.of_lse(inputs.q.new_full((inputs.q.shape[1], len(chosen)), NOTHING, dtype=wide(inputs.q)))
    for block in walk(inputs, 0, chosen):
        total.add(block.heads, block.rows, RowSum.of_scores(block.scores))
    return total


def _add(sums: WeightSums, block: Block, bins: Bins, total: RowSum, chosen: Tensor, alike: bool) -> None:
    seen = (block.scores[:1] if alike else block.scores).ne(NOTHING).to(block.scores.dtype)
    to_weights(block.scores, total.at(block.heads, block.rows))
    queries = chosen[block.rows]
    for into, values in ((sums.blocks, block.scores), (sums.pairs, seen)):
        by_key = values.new_zeros(*values.shape[:2], into.shape[2]).index_add_(2, bins.keys[block.keys], values)
        into[block.heads] += values.new_zeros(len(values), *into.shape[1:]).index_add_(1, bins.queries[queries], by_key)
    kind = bins.kind(queries, block.keys).flatten()
    of_kind = torch.stack([kind == one for one in range(bins.kinds)]).to(block.scores.dtype)
    sums.kinds[block.heads] += block.scores.flatten(1) @ of_kind.T
