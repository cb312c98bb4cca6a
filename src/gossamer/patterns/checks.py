"""Checks that name the field, quote the value and say what is allowed."""

from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError, quote

__all__ = ["LARGEST", "check_boolean", "check_choice", "check_integer", "check_mask"]

LARGEST = 2**31 - 1
"""No size, distance or count is larger: products of two of them still fit into 64 bits."""


def check_integer(owner: str, field: str, value: Any, least: int) -> None:
    """Refuse anything but a true integer from `least` to `LARGEST` (a symbolic size of a traced program is one)."""
    is_integer = isinstance(value, int | torch.SymInt) and not isinstance(value, bool)
    if not is_integer or value < least or value > LARGEST:
        raise InputError(f"{owner}: {field} is {quote(value)}; it must be an integer from {least} to {LARGEST}")


def check_boolean(owner: str, field: str, value: Any) -> None:
    """Refuse anything but True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{owner}: {field} is {quote(value)}; it must be True or False")


def check_choice(owner: str, field: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{owner}: {field} is {quote(value)}; it must be one of {', '.join(map(repr, choices))}")


def check_mask(pattern: object, allowed: Any, queries: int, keys: int, batch: int | None = None) -> None:
    """Refuse what is no mask [..., queries, keys]: other dtypes and shapes could still fit somewhere else.

    batch: [batch or 1, queries, keys] alone is one. Nothing is looked at while tracing.
    """
    if torch.compiler.is_compiling():
        return
    is_mask = isinstance(allowed, Tensor) and allowed.dtype == torch.bool and allowed.shape[-2:] == (queries, keys)
    if is_mask and (batch is None or (allowed.dim() == 3 and len(allowed) in (1, batch))):
        return
    gave = f"{allowed.dtype} of shape {list(allowed.shape)}" if isinstance(allowed, Tensor) else quote(allowed)
    lead, named = ("...", "...") if batch is None else (f"{batch} or 1", "batch")
    raise InputError(
        f"allowed of '{pattern}' gave {gave}; it must be boolean, [{lead}, {queries}, {keys}]: [{named}, queries, keys]"
    )
