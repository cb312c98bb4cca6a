"""Tensors in error messages: what they are, and which of their numbers is out of range."""

import torch
from torch import Tensor

from gossamer.errors import InputError

__all__ = ["IDS", "NUMBERS", "check_range", "describe"]

IDS = (torch.int64, torch.int32)
"""What torch looks rows of a table up by."""
NUMBERS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.int8, torch.uint8, *IDS)


def check_range(name: str, ids: Tensor, least: int, most: int, what: str) -> None:
    """Refuse ids outside least..most, quoting the first such id and its place."""
    if ids.numel() == 0:
        return
    low, high = int(ids.min()), int(ids.max())
    if low < least or high > most:
        bad = low if low < least else high
        place = tuple((ids == bad).nonzero()[0].tolist())
        raise InputError(f"{name} holds {bad} at {list(place)}; {what} go from {least} to {most}")


def describe(value: object) -> str:
    """A value's type, and a tensor's shape, for an error message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} shaped {list(value.shape)}"
    return type(value).__name__
