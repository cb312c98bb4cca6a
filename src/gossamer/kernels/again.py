"""Calls like earlier ones: to check, choose and describe them again would take longer than a short text's attention.

Only calls of q, k, v and a pattern, with nothing else given, are remembered, by everything that their checks read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.kernels.cpu import Prepared, prepare
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.select import kernel_is_there
from gossamer.kernels.torch_state import is_plain_eager
from gossamer.patterns import Pattern

__all__ = ["find", "is_plain", "kept", "remember"]

MOST = 256
"""Calls that are remembered at once."""

_PREPARED: dict[Any, Prepared] = {}


def is_plain(query_start: object, dropout: object, scale: object, backend: object) -> bool:
    """Whether these are as they should be, and the first two 0; all others are for the checks of a call."""
    return (
        type(query_start) is int
        and type(dropout) in (int, float)
        and query_start == 0
        and dropout == 0
        and (scale is None or type(scale) in (int, float))
        and type(backend) is str
    )


def kept(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float | None, backend: str, lse: bool) -> Any:
    """What tells this call from others, or None where it cannot be remembered."""
    if not isinstance(pattern, Pattern) or torch.is_autocast_enabled("cpu") or not is_plain_eager(q, k, v):
        return None
    shapes, strides = (q.shape, k.shape, v.shape), (q.stride(), k.stride(), v.stride())
    return (pattern, q.dtype, k.dtype, v.dtype, shapes, strides, scale, type(scale), backend, lse)


def find(key: Any) -> Prepared | None:
    """The earlier call, unless the kernel is no longer to be used."""
    found = _PREPARED.get(key)
    return found if found is None or kernel_is_there() else None


def remember(key: Any, inputs: Inputs) -> None:
    """Keep a call that the compiled kernel computes."""
    if len(_PREPARED) >= MOST:
        _PREPARED.clear()
    if (one := prepare(inputs)) is not None:
        _PREPARED[key] = one
