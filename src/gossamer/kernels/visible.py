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
    if inputs.q_segments is not None and inputs.k_segments is not None:
        allowed = allowed & (inputs.q_segments[:, None, :, None] == inputs.k_segments[:, None, None, :])
    if inputs.key_mask is not None:
        allowed = allowed & inputs.key_mask[:, None, None, :]
    if inputs.bias is not None:
        allowed = allowed & (inputs.bias != float("-inf"))
    return allowed


def _pattern_mask(inputs: Inputs) -> Tensor:
    device = inputs.q.device
    if inputs.pattern == Full():
        return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    allowed = inputs.pattern.allowed(*inputs.read_positions, inputs.q_flags, inputs.k_flags)
    if inputs.pattern.differs_by_head:
        return allowed
    check_mask(inputs.pattern, allowed, inputs.queries, inputs.keys, batch=inputs.q.shape[0])
    return allowed[:, None]
