"""torch's scaled dot-product attention under a dense mask: for short inputs, biases and full attention."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gossamer.kernels.inputs import Inputs, bias_in, readable
from gossamer.kernels.once import differentiable_once
from gossamer.kernels.visible import visible
from gossamer.patterns import Full, Pattern

__all__ = ["dense"]

CACHED_MASK = 2**20
"""Masks of at most so many pairs are kept from call to call."""


def dense(inputs: Inputs) -> Tensor:
    """Output [batch, heads, queries, size]; without log-sum-exp, dropout and second derivative."""
    if inputs.bias is None or not inputs.bias.requires_grad:  # for a bias that learns torch takes plain operations
        q, k, v = differentiable_once(inputs.q, inputs.k, inputs.v)
        inputs = replace(inputs, q=q, k=k, v=v)
    inputs = inputs.with_repeated_heads()
    if inputs.bias is not None and inputs.q.dtype.itemsize == 2 and inputs.bias.dtype != inputs.q.dtype:
        # Half precision would round the bias, and make minus infinity of a large one.
        wide = replace(inputs, q=inputs.q.float(), k=inputs.k.float(), v=inputs.v.float())
        return _dense(wide).to(inputs.q.dtype)
    return _dense(inputs)


def _dense(inputs: Inputs) -> Tensor:
    q, k, v = inputs.q, inputs.k, inputs.v
    if inputs.key_mask is not None:
        padding = ~inputs.key_mask[:, None, :, None]
        k, v = k.masked_fill(padding, 0), v.masked_fill(padding, 0)
    if inputs.key_mask is None and inputs.q_segments is None and inputs.bias is None and inputs.q_positions is None:
        if inputs.pattern.covers(inputs.queries, inputs.keys, inputs.query_start):
            return scaled_dot_product_attention(q, k, v, scale=inputs.scale)
        square = inputs.queries == inputs.keys and inputs.query_start == 0
        if inputs.pattern == Full(causal=True) and square:
            return scaled_dot_product_attention(q, k, v, is_causal=True, scale=inputs.scale)
    added, empty = _mask(inputs)
    out = scaled_dot_product_attention(q, k, v, attn_mask=added, scale=inputs.scale)
    if empty is None or (readable(empty) and not bool(empty.any())):
        return out
    return out.masked_fill(empty, 0)


def _mask(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """What is added to the scores, and the rows that see nothing, [..., queries, 1] (None: no such row)."""
    plain = all(
        x is None for x in (inputs.key_mask, inputs.q_segments, inputs.q_positions, inputs.q_flags, inputs.bias)
    )
    if not plain or not readable(inputs.q) or inputs.queries * inputs.keys > CACHED_MASK:
        return _make_mask(inputs)
    return _cached_mask(
        inputs.pattern, inputs.queries, inputs.keys, inputs.query_start, inputs.q.dtype, inputs.q.device
    )


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
