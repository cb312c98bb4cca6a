"""One batch element and a group of its heads: what the tiles are cut from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gossamer.kernels.token_values import TokenValues, taken

__all__ = ["Sequence", "Slots", "Sums"]

Slots = slice | Tensor
"""Which tokens: a slice, which reads in place, or indices, which gather."""


@dataclass(frozen=True)
class Sums:
    """Where the backward pass adds up, laid out like q, k, v of a sequence, in the dtype of its log-sum-exp.

    table: like that of the sequence, where it learns.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    table: Tensor | None = None

    def at(self, queries: Slots, keys: Slots) -> Sums:
        return Sums(self.q[:, queries], self.k[:, keys], self.v[:, keys], self.table)


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """q [heads, queries, size], k and v [heads, keys, size], and one value a token, [queries] or [keys].

    `q_index` and `k_index` number the tokens for dropout. `gathered` holds the rising indices of keys that were picked
    out of a text, whose places positions then tell. Where both sides are unmarked, tiles inside it are all alike.
    table: [heads, distances], added by the distance of `bias_positions`, with column `before` of distance 0; with
    `is_even` these rise by the same from token to token on both sides, so that tiles at one distance get the same.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    batch: int
    first_head: int
    scale: float
    query_start: int = 0
    queries: TokenValues
    keys: TokenValues
    gathered: Tensor | None = None
    dropout: float = 0.0
    seed: Tensor | None = None
    q_index: Tensor | None = None
    k_index: Tensor | None = None
    table: Tensor | None = None
    before: int = 0
    is_even: bool = True

    def some_queries(self, at: Slots) -> Sequence:
        """These queries against all keys; without positions, which only a band reads."""
        s = self._with_positions(None, None)
        is_even = self.is_even and isinstance(at, slice)
        return replace(s, q=self.q[:, at], queries=s.queries[at], q_index=taken(self.q_index, at), is_even=is_even)

    def some_keys(self, at: Slots) -> Sequence:
        """All queries against these keys; without positions, which only a band reads."""
        s = self._with_positions(None, None)
        return replace(
            s, k=self.k[:, at], v=self.v[:, at], keys=s.keys[at], k_index=taken(self.k_index, at),
            is_even=self.is_even and isinstance(at, slice),
        )  # fmt: skip

    def placed(self) -> Sequence:
        """The same sequence with places for positions, where there are any."""
        q_places, k_places = self.queries.places, self.keys.places
        return self if q_places is None or k_places is None else self._with_positions(q_places, k_places)

    def _with_positions(self, of_queries: Tensor | None, of_keys: Tensor | None) -> Sequence:
        queries, keys = replace(self.queries, positions=of_queries), replace(self.keys, positions=of_keys)
        return replace(self, queries=queries, keys=keys)

    def cells(self, stride: int, first: int, stop: int) -> tuple[Sequence, Tensor]:
        """All queries against the keys at places first to stop of their blocks; also returns which keys those are."""
        s = self.placed()
        q_at, k_at = s.queries.positions, s.keys.positions
        if q_at is None or k_at is None:
            q_at = torch.arange(s.q.shape[1], device=s.q.device) + s.query_start
            k_at = torch.arange(s.k.shape[1], device=s.q.device)
        place = k_at.remainder(stride)
        at = ((place >= first) & (place < stop)).nonzero()[:, 0]
        return replace(s.some_keys(at)._with_positions(q_at, k_at[at]), gathered=at), at

    def without_keys(self, at: Tensor) -> Sequence:
        """The same sequence in which nobody sees these keys."""
        real = self.keys.real
        real = self.q.new_ones(self.k.shape[1], dtype=torch.bool) if real is None else real.clone()
        real[at] = False
        return self.with_real(real)

    def with_real(self, real: Tensor | None) -> Sequence:
        return replace(self, keys=replace(self.keys, real=real))

    def every(self, dilation: int, first: int) -> tuple[Sequence, slice, slice]:
        """Query `first` and every dilation-th after it, and the keys in step with them: a shorter sequence, in place.

        Also returns where its queries and keys lie.
        """
        start, residue = divmod(self.query_start + first, dilation)
        queries, keys = slice(first, None, dilation), slice(residue, None, dilation)
        return replace(self.some_queries(queries).some_keys(keys), query_start=start), queries, keys
