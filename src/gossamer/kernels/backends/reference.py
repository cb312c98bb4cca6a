"""The definition of attention, which every other backend is compared with: dense, plain operations, any dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.kernels.backend import Backend, Cost
from gossamer.kernels.dropout import keep_mask
from gossamer.kernels.hashing import alone, times_met
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.precision import bias_in, wide
from gossamer.kernels.visible import visible

__all__ = ["REFERENCE", "reference"]


def reference(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """softmax(q k^T scale + bias) v over the visible keys, and each row's log-sum-exp.

    A row that sees nothing gives zeros, log-sum-exp -inf and zero gradients. Half precision is computed in float32.
    Source: Vaswani et al. 2017, section 3.2.1.
    """
    dtype, hashes = inputs.q.dtype, inputs.pattern.hashes
    inputs = inputs.with_repeated_heads().with_whole_bias()
    q, k, v = (x.to(wide(x)) for x in (inputs.q, inputs.k, inputs.v))
    if inputs.keys.real is not None:
        padding = ~inputs.keys.real[:, None, :, None]
        k, v = k.masked_fill(padding, 0), v.masked_fill(padding, 0)
    scores = q @ k.mT * inputs.scale
    if inputs.bias is not None:
        scores = scores + bias_in(q.dtype, inputs.bias)
    allowed = visible(inputs)
    if hashes is not None:
        times = times_met(inputs, hashes)
        allowed = allowed & (times > 0)
        scores = scores + times.clamp(min=1).to(scores.dtype).log()
    scores = scores.masked_fill(~allowed, float("-inf"))
    empty = ~allowed.any(-1, keepdim=True)
    probabilities = scores.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
    lse = scores.masked_fill(empty, 0).logsumexp(-1).masked_fill(empty[..., 0], float("-inf"))
    out = (_dropped(probabilities, inputs) @ v).to(dtype)
    return (out, lse) if hashes is None else alone(inputs, out, lse)


def _dropped(probabilities: Tensor, inputs: Inputs) -> Tensor:
    if not inputs.dropout or inputs.seed is None:
        return probabilities
    batch, heads, queries, keys = (torch.arange(n, device=probabilities.device) for n in probabilities.shape)
    keep = keep_mask(
        inputs.dropout, inputs.seed, batch[:, None, None, None], heads[:, None, None], queries[:, None], keys
    )
    return probabilities * keep / (1 - inputs.dropout)


def _scratch(inputs: Inputs) -> int:
    """Three scores a pair and head at once."""
    batch, heads, queries, _ = inputs.q.shape
    return 3 * batch * heads * queries * inputs.num_keys * max(inputs.q.itemsize, 4)


REFERENCE = Backend(
    name="reference",
    why_not=lambda inputs: None,
    cost=lambda inputs: Cost(pairs=None),
    run=reference,
    only="the only one that can",
    outruns={},
    scratch=_scratch,
)
