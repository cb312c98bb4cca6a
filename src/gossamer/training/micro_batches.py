"""The parts of a step: how a batch is cut, the seed of each part's dropout, what it runs under."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

__all__ = ["autocast", "cut", "draw"]

_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """What a forward pass runs under."""
    kind = _PRECISIONS.get(precision)
    return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind)


def draw(*numbers: int) -> int:
    """A seed from numbers that tell one place from every other."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def cut(batch: Mapping[str, Tensor], parts: int) -> tuple[list[dict[str, Tensor]], list[bool]]:
    """The batch in so many parts of equally many rows, or one more; and which of them are.

    All processes pass as many parts, so where there are fewer rows the first one fills up.
    """
    pieces = {name: tensor.tensor_split(parts) for name, tensor in batch.items()}
    rows = [{name: several[i] for name, several in pieces.items()} for i in range(parts)]
    real = [len(one["labels"]) > 0 for one in rows]
    return [one if is_real else rows[0] for one, is_real in zip(rows, real, strict=True)], real
