"""The dense definition of a call: which query may see which key, as one boolean tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.inputs import Inputs, tracing
from gossamer.patterns import Full

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
    if not tracing():
        _check_mask(inputs, allowed)
    return allowed[:, None]


def _check_mask(inputs: Inputs, allowed: Tensor) -> None:
    """What a pattern of one's own answers: a mask of another shape could still fit somewhere else."""
    batch, shape = inputs.q.shape[0], tuple(allowed.shape)
    if allowed.dtype != torch.bool or shape[1:] != (inputs.queries, inputs.keys) or shape[0] not in (1, batch):
        raise InputError(
            f"allowed of '{inputs.pattern}' gave {allowed.dtype} of shape {list(shape)}; it must be boolean, "
            f"[{batch} or 1, {inputs.queries}, {inputs.keys}]: [batch, queries, keys]"
        )
