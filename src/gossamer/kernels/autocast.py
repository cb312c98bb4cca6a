"""Under torch.autocast, attention takes its inputs in autocast's dtype and computes as it always does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

__all__ = ["autocast_off", "autocasting", "in_autocast_dtype"]


def autocasting(x: Tensor) -> bool:
    """Whether autocast is on for this tensor's device."""
    return torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)


def in_autocast_dtype(x: Tensor) -> Tensor:
    """The tensor as torch's own attention would read it: under autocast in its dtype, except for float64."""
    if not autocasting(x) or not x.dtype.is_floating_point or x.dtype == torch.float64:
        return x
    return x.to(torch.get_autocast_dtype(x.device.type))


def autocast_off(x: Tensor) -> AbstractContextManager[object]:
    """Keeps autocast out: it would compute scores and sums, which are float32 on purpose, in half precision."""
    return torch.autocast(x.device.type, enabled=False) if autocasting(x) else nullcontext()
