"""The dense definition of a call: which query may see which key, as one boolean tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.kernels.inputs import Inputs
from gossamer.patterns import Full
from gossamer.patterns.checks import check_mask

__all__ = ["visible"]


def visible(inputs: Inputs) -> Tensor:
    """Who may attend to whom, broadcasting to [batch, heads, queries, keys]: pattern, segments, padding, bias."""
    allowed = _pattern_mask(inputs)
    queries, keys = inputs.queries, inputs.keys
    if queries.segments is not None and keys.segments is not None:
        allowed = allowed & (queries.segments[:, None, :, None] == keys.segments[:, None, None, :])
    if keys.real is not None:
        allowed = allowed & keys.real[:, None, None, :]
    if inputs.bias is not None:
        allowed = allowed & (inputs.bias != float("-inf"))
    return allowed


def _pattern_mask(inputs: Inputs) -> Tensor:
    device = inputs.q.device
    if inputs.pattern == Full():
        return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    allowed = inputs.pattern.allowed(*inputs.read_positions, inputs.queries.flags, inputs.keys.flags)
    if inputs.pattern.differs_by_head:
        return allowed
    check_mask(inputs.pattern, allowed, inputs.num_queries, inputs.num_keys, batch=inputs.q.shape[0])
    return allowed[:, None]
