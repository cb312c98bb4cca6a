"""Packed documents that hold NaN or infinity, which the product of a masked pair would carry to the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gossamer.kernels.inputs import Inputs, tracing
from gossamer.kernels.torch_state import in_transform

__all__ = ["each_damaged_apart"]

Result = tuple[Tensor, Tensor | None]
TokensOf = tuple[Tensor, Tensor]
"""Which queries [batch, queries] and which keys [batch, keys] are meant."""


def each_damaged_apart(inputs: Inputs, compute: Callable[[Inputs], Result], tensors: str = "qkv") -> Result:
    """What `compute` gives, so that no number of a document reaches another, backwards neither.

    A probability of 0 times NaN is NaN. So documents with numbers that are not finite are left out (zeros take their
    place, and no gradient), and computed again each without all others: one more call for each that a text holds.
    tensors: those of q, k and v whose numbers `compute` would let out. While tracing and under torch.func's transforms
    values cannot be looked at, and the numbers go where they go.
    """
    if inputs.queries.segments is None or tracing() or in_transform():
        return compute(inputs)
    if _seem_finite(*(getattr(inputs, name) for name in tensors)):
        return compute(inputs)
    damaged = _damaged(inputs)
    if not damaged:
        return compute(inputs)
    out, lse = compute(_without(inputs, _any(damaged)))
    for tokens in damaged:
        queries, keys = tokens
        part, part_lse = compute(_without(inputs, (~queries, ~keys)))
        out = torch.where(queries[:, None, :, None], part, out)
        if lse is not None and part_lse is not None:
            lse = torch.where(queries[:, None], part_lse, lse)
    return out, lse


@torch.no_grad()
def _seem_finite(*tensors: Tensor) -> bool:
    """In one pass over each tensor; a sum that overflows says nothing."""
    return all(bool(x.sum(dtype=torch.float32).isfinite()) for x in tensors)


@torch.no_grad()
def _damaged(inputs: Inputs) -> list[TokensOf]:
    """The damaged documents, the first of every text together, then the second ..."""
    q_segments, k_segments = inputs.queries.segments, inputs.keys.segments
    assert q_segments is not None
    assert k_segments is not None
    bad_queries, bad_keys = _is_bad(inputs.q), _is_bad(inputs.k) | _is_bad(inputs.v)
    if inputs.keys.real is not None:
        bad_keys &= inputs.keys.real
    names = [
        torch.cat([queries[bad], keys[other]]).unique().tolist()
        for queries, bad, keys, other in zip(q_segments, bad_queries, k_segments, bad_keys, strict=True)
    ]
    return [
        (_of_documents(q_segments, names, i), _of_documents(k_segments, names, i))
        for i in range(max(map(len, names), default=0))
    ]


def _is_bad(x: Tensor) -> Tensor:
    return ~x.isfinite().all(-1).all(1)


def _of_documents(segments: Tensor, names: list[list[int]], i: int) -> Tensor:
    """Which tokens are of each text's i-th damaged document."""
    rows = [row == name[i] if i < len(name) else torch.zeros_like(row, dtype=torch.bool)
            for row, name in zip(segments, names, strict=True)]  # fmt: skip
    return torch.stack(rows)


def _any(several: list[TokensOf]) -> TokensOf:
    queries, keys = zip(*several, strict=True)
    return torch.stack(queries).any(0), torch.stack(keys).any(0)


def _without(inputs: Inputs, tokens: TokensOf) -> Inputs:
    """The call with zeros for these tokens, which get no gradient."""
    queries, keys = (mask[:, None, :, None] for mask in tokens)
    return replace(
        inputs, q=inputs.q.masked_fill(queries, 0), k=inputs.k.masked_fill(keys, 0), v=inputs.v.masked_fill(keys, 0)
    )
