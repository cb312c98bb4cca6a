"""Attention weights by plain operations, all pairs at once: where scores learn from more than q and k."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.precision import bias_in, wide
from gossamer.kernels.visible import visible

__all__ = ["plain_rows"]


def plain_rows(inputs: Inputs, chosen: Int[Tensor, "batch rows"]) -> Float[Tensor, "batch heads rows keys"]:
    """The weights of these queries, in float32 or wider, differentiable in q, k and what is added by distance."""
    with autocast_off(inputs.q):
        inputs = inputs.with_repeated_heads()
        if inputs.keys.real is not None:
            inputs = replace(inputs, k=inputs.k.masked_fill(~inputs.keys.real[:, None, :, None], 0))
        inputs = inputs.with_whole_bias()
        scores = inputs.q.to(wide(inputs.q)) @ inputs.k.to(wide(inputs.k)).mT * inputs.scale
        scores = scores if inputs.bias is None else scores + bias_in(scores.dtype, inputs.bias)
        allowed = visible(inputs)
        empty = ~allowed.any(-1, keepdim=True)
        weights = scores.masked_fill(~allowed, float("-inf")).masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
        rows = chosen[:, None, :, None].expand(-1, weights.shape[1], -1, weights.shape[3])
        return torch.gather(weights, 2, rows)
