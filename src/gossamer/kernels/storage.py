"""Whether the memory of a tensor is as large as its shape says: torch lets it be given back under a tensor in use."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.kernels.torch_state import is_wrapped_by_transform

__all__ = ["check_storage", "check_tensor", "is_cut_off", "span_bytes"]


def check_tensor(name: str, x: object) -> None:
    """Refuse what is no ordinary, dense tensor whose memory is there."""
    if not isinstance(x, Tensor):
        raise InputError(f"{name} is {quote(x)}, a {type(x).__name__}; it must be a tensor")
    if x.is_nested or x.layout != torch.strided:
        kind = "nested" if x.is_nested else str(x.layout).removeprefix("torch.")
        raise InputError(f"{name} is a tensor of layout {kind}; it must be an ordinary, dense one")
    check_storage(name, x)


def check_storage(name: str, x: Tensor) -> None:
    """Refuse a tensor whose storage was resized below what it needs: to read it would end the process."""
    if _lies_in_memory(x) and is_cut_off(x, span_bytes(x)):
        needed = x.storage_offset() * x.itemsize + span_bytes(x)
        raise InputError(
            f"{name} needs a storage of {needed} bytes and its own has {x.untyped_storage().nbytes()}: it was resized; "
            "give a tensor whose memory is still there"
        )


def is_cut_off(x: Tensor, span: int) -> bool:
    """Whether the storage ends before `span` bytes of the tensor do, which is what `span_bytes` says of its layout."""
    return span > 0 and x.storage_offset() * x.itemsize + span > x.untyped_storage().nbytes()


def span_bytes(x: Tensor) -> int:
    """Bytes from the first number of a tensor to behind the last one in memory."""
    if x.numel() == 0:
        return 0
    return (1 + sum((length - 1) * stride for length, stride in zip(x.shape, x.stride(), strict=True))) * x.itemsize


def _lies_in_memory(x: Tensor) -> bool:
    """Whether it has a storage of its own to look at: nobody traces, and no subclass or transform stands for others."""
    if torch.compiler.is_compiling() or x.device.type not in ("cpu", "cuda"):
        return False
    is_ordinary = type(x).__torch_dispatch__ is Tensor.__torch_dispatch__
    return is_ordinary and not is_wrapped_by_transform(x)
