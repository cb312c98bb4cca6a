"""torch's scaled dot-product attention under a dense mask: for short inputs, biases and full attention."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gossamer.kernels.inputs import Inputs
from gossamer.kernels.visible import visible
from gossamer.patterns import Full

__all__ = ["dense"]


def dense(inputs: Inputs) -> Tensor:
    """Output [batch, heads, queries, size]; without log-sum-exp and without dropout."""
    inputs = inputs.with_repeated_heads()
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
    allowed = visible(inputs)
    out = scaled_dot_product_attention(q, k, v, attn_mask=_added(inputs, allowed), scale=inputs.scale)
    return out.masked_fill(~allowed.any(-1, keepdim=True), 0)


def _added(inputs: Inputs, allowed: Tensor) -> Tensor:
    """The mask as torch adds it: finite, so that a row without keys has finite values and gradients before it is zeroed."""
    q = inputs.q
    nothing = q.new_tensor(torch.finfo(q.dtype).min / 2)
    return torch.where(allowed, q.new_zeros(()) if inputs.bias is None else inputs.bias.to(q.dtype), nothing)
