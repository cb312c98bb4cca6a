"""Calls like earlier ones, prepared: checks, choice and description take longer than the attention of a short text.

Only calls of q, k, v and a pattern, with nothing else given, are remembered, by everything that their checks read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.kernels.backends.cpu import Prepared, kernel_is_there, prepare
from gossamer.kernels.inputs import Inputs
from gossamer.kernels.rings import has_ring
from gossamer.kernels.torch_state import is_plain_eager
from gossamer.patterns import Pattern

__all__ = ["cache_key", "is_cacheable", "lookup", "store"]

MOST = 256
"""Calls that are remembered at once."""

_PREPARED: dict[Any, Prepared] = {}


def is_cacheable(query_start: object, dropout: object, scale: object, backend: object) -> bool:
    """Whether these are as they should be, and the first two 0; all others are for the checks of a call."""
    return (
        type(query_start) is int
        and type(dropout) in (int, float)
        and query_start == 0
        and dropout == 0
        and (scale is None or type(scale) in (int, float))
        and type(backend) is str
    )


def cache_key(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, scale: float | None, backend: str, lse: bool) -> Any:
    """What tells this call from others, or None where it cannot be remembered."""
    if not isinstance(pattern, Pattern) or torch.is_autocast_enabled("cpu") or not is_plain_eager(q, k, v):
        return None
    if has_ring(pattern):
        return None
    shapes, strides = (q.shape, k.shape, v.shape), (q.stride(), k.stride(), v.stride())
    return (pattern, q.dtype, k.dtype, v.dtype, shapes, strides, scale, type(scale), backend, lse)


def lookup(key: Any) -> Prepared | None:
    """The earlier call, unless the kernel is no longer to be used."""
    try:
        prepared = _PREPARED.get(key)
    except TypeError:  # a pattern with a list in it, which the checks of a call refuse
        return None
    return prepared if prepared is None or kernel_is_there() else None


def store(key: Any, inputs: Inputs) -> None:
    """Keep a call that the compiled kernel computes."""
    if len(_PREPARED) >= MOST:
        _PREPARED.clear()
    if (prepared := prepare(inputs)) is not None:
        _PREPARED[key] = prepared
