"""Dropout as a function: whether a probability is kept depends on (seed, batch, head, query, key) and nothing else.

So every backend that has dropout drops the same probabilities, in whatever order it meets them, and the backward pass
draws them again instead of storing them. The hash is murmur3's finaliser on 32-bit integers for batch, head and query,
and one multiply-shift-multiply round for the key (Appleby 2008; torch's int32 arithmetic wraps, as the hash needs).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["keep_mask", "keep_threshold"]


def keep_threshold(rate: float) -> int:
    """A probability is dropped when its 32 bits, a signed number, lie below this less 2^31; rates are below 1.

    Every backend compares with this whole number: a rate in float32 would decide otherwise on one pair in 10^8 or 10^9.
    """
    return int(rate * 2**32)


def keep_mask(rate: float, seed: Tensor, batch: Tensor, heads: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """Which probabilities survive, boolean, in the shape to which the five integer tensors broadcast."""
    device = queries.device
    mixed = _mix(seed.to(device=device, dtype=torch.int64).to(torch.int32))
    for part in (batch, heads, queries):
        mixed = _mix(mixed ^ _times(part.to(torch.int32), 0x9E3779B9))
    columns = _mix(_times(keys.to(torch.int32), 0x85EBCA6B) ^ 0x5BD1E995)
    # In place: this is as large as the scores.
    bits = (mixed ^ columns).mul_(_signed(0x7FEB352D))
    bits = bits.bitwise_xor_(_shift(bits, 15)).mul_(_signed(0x846CA68B))
    return bits >= keep_threshold(rate) - 2**31


def _signed(constant: int) -> int:
    return constant - 2**32 if constant >= 2**31 else constant


def _times(x: Tensor, constant: int) -> Tensor:
    return x * _signed(constant)


def _shift(x: Tensor, bits: int) -> Tensor:
    """A logical shift to the right: torch's own carries the sign along."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = _times(x ^ _shift(x, 16), 0x85EBCA6B)
    x = _times(x ^ _shift(x, 13), 0xC2B2AE35)
    return x ^ _shift(x, 16)
