"""torch's scaled dot-product attention under a dense mask: for short inputs, biases and full attention."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gossamer.kernels.backend import Backend, Cost
from gossamer.kernels.inputs import Inputs, readable, tracing
from gossamer.kernels.once import differentiable_once
from gossamer.kernels.pieces import why_not_pieces
from gossamer.kernels.precision import bias_in
from gossamer.kernels.torch_state import has_tangents, transforms
from gossamer.kernels.visible import visible
from gossamer.patterns import Full, Pattern

__all__ = ["DENSE", "dense", "dense_pairs", "is_causal_alone"]

CACHED_MASK = 2**20
"""Masks of at most so many pairs are kept from call to call."""
TABLE = 3
"""Times as long as its pairs a call takes whose table by distance is written out for each of them (docs/LOG.md)."""


def dense(inputs: Inputs) -> tuple[Tensor, None]:
    """Output [batch, heads, queries, size]; without log-sum-exp, dropout and second derivative."""
    inputs = inputs.with_whole_bias()
    if inputs.bias is None or not inputs.bias.requires_grad:  # for a bias that learns torch takes plain operations
        q, k, v = differentiable_once(inputs.q, inputs.k, inputs.v)
        inputs = replace(inputs, q=q, k=k, v=v)
    inputs = inputs.with_repeated_heads()
    if _is_widened(inputs):
        # Half precision would round the bias, and make minus infinity of a large one.
        wide = replace(inputs, q=inputs.q.float(), k=inputs.k.float(), v=inputs.v.float())
        return _dense(wide).to(inputs.q.dtype), None
    return _dense(inputs), None


def _is_widened(inputs: Inputs) -> bool:
    return inputs.bias is not None and inputs.q.dtype.itemsize == 2 and inputs.bias.dtype != inputs.q.dtype


def _dense(inputs: Inputs) -> Tensor:
    q, k, v = inputs.q, inputs.k, inputs.v
    if inputs.keys.real is not None:
        padding = ~inputs.keys.real[:, None, :, None]
        k, v = k.masked_fill(padding, 0), v.masked_fill(padding, 0)
    if inputs.is_plain and inputs.bias is None:
        if inputs.pattern.covers(inputs.num_queries, inputs.num_keys, inputs.query_start):
            return scaled_dot_product_attention(q, k, v, scale=inputs.scale)
        if is_causal_alone(inputs):
            return scaled_dot_product_attention(q, k, v, is_causal=True, scale=inputs.scale)
    added, empty = _mask(inputs)
    out = scaled_dot_product_attention(q, k, v, attn_mask=added, scale=inputs.scale)
    if empty is None or (readable(empty) and not bool(empty.any())):
        return out
    return out.masked_fill(empty, 0)


def _mask(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """What is added to the scores, and the rows that see nothing, [..., queries, 1] (None: no such row)."""
    if not _is_cached(inputs):
        return _make_mask(inputs)
    return _cached_mask(
        inputs.pattern, inputs.num_queries, inputs.num_keys, inputs.query_start, inputs.q.dtype, inputs.q.device
    )


def _is_cached(inputs: Inputs) -> bool:
    """Whether all calls of these lengths have the same mask, and it is small."""
    plain = inputs.is_plain and inputs.queries.flags is None and inputs.bias is None
    return plain and readable(inputs.q) and inputs.num_queries * inputs.num_keys <= CACHED_MASK


@lru_cache(maxsize=8)
def _cached_mask(
    pattern: Pattern, queries: int, keys: int, query_start: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    # A mask made in inference mode could not be kept for a later call that trains.
    with torch.inference_mode(False):
        q, k = (torch.empty(1, 1, length, 1, dtype=dtype, device=device) for length in (queries, keys))
        added, empty = _make_mask(Inputs(q=q, k=k, v=k, pattern=pattern, query_start=query_start))
    return added, empty if empty is not None and bool(empty.any()) else None


def _make_mask(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The mask as torch adds it; rows that see nothing stay finite, gradients too, until they are zeroed."""
    q = inputs.q
    allowed = visible(inputs)
    empty = ~allowed.any(-1, keepdim=True)
    bias = q.new_zeros(()) if inputs.bias is None else bias_in(q.dtype, inputs.bias)
    added = torch.where(allowed, bias, q.new_tensor(float("-inf")))
    return added.masked_fill_(empty, 0), empty


def is_causal_alone(inputs: Inputs) -> bool:
    """Whether torch leaves out the pairs behind the diagonal, without a mask."""
    square = inputs.num_queries == inputs.num_keys and inputs.query_start == 0
    return inputs.is_plain and inputs.pattern == Full(causal=True) and square


def dense_pairs(inputs: Inputs) -> int:
    """The pairs that torch computes, of all texts and heads."""
    batch, heads, queries, _ = inputs.q.shape
    pairs = batch * heads * queries * inputs.num_keys
    return pairs // 2 if is_causal_alone(inputs) and queries > 1 else pairs


def _why_not(inputs: Inputs) -> str | None:
    if inputs.groups is None:
        return why_not_pieces(inputs.pattern)
    if inputs.buckets is not None:
        return "who sees whom depends on buckets"
    if inputs.dropout:
        return "torch's dropout is not the counter-based one"
    if tracing():
        return None
    if has_tangents(inputs.q, inputs.k, inputs.v, *inputs.tables):
        return "torch's has no forward-mode derivative"
    return "torch's has no second derivative" if transforms().count("Grad") > 1 else None


def _cost(inputs: Inputs) -> Cost:
    return Cost(pairs=dense_pairs(inputs) * (1 if inputs.distance_bias is None else TABLE))


def _mask_bytes(inputs: Inputs) -> tuple[int, int]:
    """Of what is added to the scores, and of its flags."""
    batch, heads, queries, _ = inputs.q.shape
    is_full = inputs.is_plain and inputs.pattern.covers(queries, inputs.num_keys, inputs.query_start)
    if inputs.bias is None and (is_full or is_causal_alone(inputs)):
        return 0, 0
    pairs, by_text = (queries, inputs.num_keys), not inputs.is_plain or inputs.queries.flags is not None
    shapes: list[tuple[int, ...]] = [(batch, 1, 1, inputs.num_keys)] if by_text else []
    if inputs.queries.segments is not None:
        shapes.append((batch, 1, *pairs))
    if inputs.pattern != Full():
        of_pattern = batch if by_text and not _reads_indices(inputs) else 1
        shapes.append((of_pattern, heads if inputs.pattern.differs_by_head else 1, *pairs))
    if inputs.bias is not None:
        shapes.append(tuple(inputs.bias.shape))
    flags = math.prod(torch.broadcast_shapes(*shapes))
    return flags * _number_bytes(inputs), flags


def _number_bytes(inputs: Inputs) -> int:
    return torch.float32.itemsize if _is_widened(inputs) else inputs.q.itemsize


def _converted_bytes(inputs: Inputs) -> int:
    """Of a bias in the dtype of the scores, and of a wider one's bounded copies."""
    if inputs.bias is None or inputs.bias.itemsize == _number_bytes(inputs):
        return 0
    is_wider = inputs.bias.itemsize > _number_bytes(inputs)
    return inputs.bias.numel() * _number_bytes(inputs) + is_wider * 2 * inputs.bias.nbytes


def _score_bytes(inputs: Inputs) -> int:
    """Of the scores that exist all at once under a bias that learns."""
    learns = inputs.bias is not None and inputs.bias.requires_grad and torch.is_grad_enabled()
    return math.prod(inputs.q.shape[:3]) * inputs.num_keys * _number_bytes(inputs) if learns else 0


def _reads_indices(inputs: Inputs) -> bool:
    """Whether the pattern reads indices alone, which all texts share."""
    queries = inputs.queries
    return queries.flags is None and queries.positions is None and queries.places is None


def _scratch(inputs: Inputs) -> int:
    """A mask and its flags; while they are made, each pair's distance as a 64-bit number and three flags more."""
    mask, flags = _mask_bytes(inputs)
    making = 0 if not flags or inputs.pattern == Full() else 11 * inputs.num_queries * inputs.num_keys
    return mask + flags + making + _converted_bytes(inputs) + 2 * _score_bytes(inputs)


def _keeps(inputs: Inputs) -> int:
    """The mask, where it is not one that all calls share; for one that learns all weights, and its flags."""
    mask, flags = _mask_bytes(inputs)
    scores = _score_bytes(inputs)
    return scores + flags if scores else 0 if _is_cached(inputs) else mask


DENSE = Backend(
    name="dense",
    why_not=_why_not,
    cost=_cost,
    run=dense,
    only="blocked cannot",
    gives_lse=False,
    scratch=_scratch,
    keeps=_keeps,
)
