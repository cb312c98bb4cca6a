"""Blocks around a ring: the last ones stand before the first once more, and the first ones behind the last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.errors import InputError
from gossamer.patterns import Chunks, Pattern

TensorOrPair = Tensor | tuple[Tensor, Tensor]

__all__ = ["has_ring", "with_ring_laid_open"]


def has_ring(pattern: Pattern) -> bool:
    """Whether the pattern's ends are neighbours."""
    return isinstance(pattern, Chunks) and pattern.ring > 0


def with_ring_laid_open(
    q: Tensor, k: Tensor, v: Tensor, pattern: Chunks, key_mask: Tensor | None, query_start: int | Tensor,
    segments: TensorOrPair | None, told: Mapping[str, object],
) -> tuple[Tensor, Tensor, Pattern, Tensor | None, int, TensorOrPair | None]:  # fmt: skip
    """Keys, values, a pattern without a ring, key mask, start and segments of a call of `attend` that gives the same.

    Those blocks that are neighbours around the ring are keys once more, at its ends; what fills its last block is no
    key. Documents that share a row have no ring. Raises InputError for queries that are not the keys, and for what is
    `told` of pairs or places.
    """
    if q.shape[2] != k.shape[2] or isinstance(query_start, Tensor) or query_start != 0:
        raise InputError(
            f"the pattern '{pattern}' is a ring, and the queries, {q.shape[2]} from {query_start} on, are not all of "
            f"the {k.shape[2]} keys; take ring=0"
        )
    for name, value in told.items():
        if value is not None:
            raise InputError(f"{name} was given to '{pattern}', which is a ring and reads none; take ring=0")
    plain = replace(pattern, ring=0)
    tokens = k.shape[2]
    blocks = pattern.blocks_around(tokens)
    if not blocks or _shares_rows(segments, key_mask):
        return k, v, plain, key_mask, 0, segments
    size = pattern.size
    before, after = pattern.before * size, pattern.after * size
    whole = blocks * size
    at = torch.arange(-before, whole + after, device=k.device) % whole
    is_key = at < tokens
    real = is_key[None].expand(k.shape[0], -1) if key_mask is None else pad(key_mask, (0, whole - tokens))[:, at]
    places = torch.where(is_key, at, 0)
    return k[:, :, places], v[:, :, places], plain, real, before, None


def _shares_rows(segments: TensorOrPair | None, key_mask: Tensor | None) -> bool:
    """Whether several documents lie in a row, padding apart; they do where nobody can look."""
    if segments is None or isinstance(segments, tuple) or torch.compiler.is_compiling():
        return segments is not None
    others = segments != segments[:, :1]
    return bool((others if key_mask is None else others & key_mask).any())
