"""One batch element and a group of its heads: what the tiles are cut from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Gradients", "Sequence", "Slots"]

Slots = slice | Tensor
"""Which tokens: a slice, which reads in place, or indices, which gather."""


@dataclass(frozen=True)
class Gradients:
    """Where the backward pass adds up, laid out like q, k, v of a sequence, in the dtype of its log-sum-exp."""

    q: Tensor
    k: Tensor
    v: Tensor

    def at(self, queries: Slots, keys: Slots) -> Gradients:
        return Gradients(self.q[:, queries], self.k[:, keys], self.v[:, keys])


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """q [heads, queries, size], k and v [heads, keys, size], and one value a token, [queries] or [keys].

    `q_index` and `k_index` number the tokens for dropout; places are what blocks are counted in. `gathered` holds the
    rising indices of keys that were picked out of a text, whose places positions then tell. Where `key_mask`, segments
    and positions are None, tiles inside the sequence are all alike.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    batch: int
    first_head: int
    scale: float
    query_start: int = 0
    key_mask: Tensor | None = None
    q_segments: Tensor | None = None
    k_segments: Tensor | None = None
    q_positions: Tensor | None = None
    k_positions: Tensor | None = None
    q_places: Tensor | None = None
    k_places: Tensor | None = None
    gathered: Tensor | None = None
    q_flags: Tensor | None = None
    k_flags: Tensor | None = None
    dropout: float = 0.0
    seed: Tensor | None = None
    q_index: Tensor | None = None
    k_index: Tensor | None = None

    def some_queries(self, at: Slots) -> Sequence:
        """These queries against all keys; without positions, which only a band reads."""
        return replace(
            self, q=self.q[:, at], q_segments=_at(self.q_segments, at), q_index=_at(self.q_index, at),
            q_positions=None, k_positions=None,
        )  # fmt: skip

    def some_keys(self, at: Slots) -> Sequence:
        """All queries against these keys; without positions, which only a band reads."""
        return replace(
            self, k=self.k[:, at], v=self.v[:, at], key_mask=_at(self.key_mask, at),
            k_segments=_at(self.k_segments, at), k_index=_at(self.k_index, at), q_positions=None, k_positions=None,
        )  # fmt: skip

    def placed(self) -> Sequence:
        """The same sequence with places for positions, where there are any."""
        if self.q_places is None or self.k_places is None:
            return self
        return replace(self, q_positions=self.q_places, k_positions=self.k_places)

    def cells(self, stride: int, first: int, stop: int) -> tuple[Sequence, Tensor]:
        """All queries against the keys at places first to stop of their blocks; also returns which keys those are."""
        s = self.placed()
        q_at, k_at = s.q_positions, s.k_positions
        if q_at is None or k_at is None:
            q_at = torch.arange(s.q.shape[1], device=s.q.device) + s.query_start
            k_at = torch.arange(s.k.shape[1], device=s.q.device)
        place = k_at.remainder(stride)
        at = ((place >= first) & (place < stop)).nonzero()[:, 0]
        return replace(s.some_keys(at), q_positions=q_at, k_positions=k_at[at], gathered=at), at

    def without_keys(self, at: Tensor) -> Sequence:
        """The same sequence in which nobody sees these keys."""
        mask = self.q.new_ones(self.k.shape[1], dtype=torch.bool) if self.key_mask is None else self.key_mask.clone()
        mask[at] = False
        return replace(self, key_mask=mask)

    def every(self, dilation: int, first: int) -> tuple[Sequence, slice, slice]:
        """Query `first` and every dilation-th after it, and the keys in step with them: a shorter sequence, in place.

        Also returns where its queries and keys lie.
        """
        start, residue = divmod(self.query_start + first, dilation)
        queries, keys = slice(first, None, dilation), slice(residue, None, dilation)
        return replace(self.some_queries(queries).some_keys(keys), query_start=start), queries, keys


def _at(x: Tensor | None, at: Slots) -> Tensor | None:
    return None if x is None else x[at]
