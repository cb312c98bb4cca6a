"""Everybody sees the tokens that fall into the same bucket: locality-sensitive hashing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.checks import is_whole
from gossamer.errors import InputError, quote
from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import LARGEST, check_boolean, check_choice, check_integer
from gossamer.patterns.grid import Grid
from gossamer.patterns.hashes import Hashes
from gossamer.patterns.pieces import Pieces
from gossamer.patterns.sums import offsets

__all__ = ["Hashed"]

READINGS = ("paper", "released")
MOST_LOOKS = 1024
"""Chunks that are looked into before or after; each is compared by itself."""
EXAMPLE = 8
"""Numbers of the directions that a picture shows."""


@dataclass(frozen=True)
class Hashed(Pattern, kind="hashed"):
    """Query i sees key j when both are in the same bucket in one of the rounds; itself only if it sees nothing else.

    A bucket is the largest of the numbers `(x R, -x R)` under a random rotation R [head size, buckets / 2], so that
    neighbouring directions share one; with several `buckets` each has its part of R, and a bucket is one choice of
    each. With a `chunk` a token has one bucket, that of its key, which Reformer's query is, too, but for its length;
    tokens lie sorted by bucket, then by place, in chunks of so many: a query sees its own chunk, so many `before` and
    `after` it, and no others, and its cost is bounded.
    Without one, queries and keys are hashed by themselves, and whole buckets see each other.

    reading: "paper", in which a pair that meets in several rounds counts once. "released", as Reformer's published code
    and `transformers` have it: all keys of those chunks, whatever their buckets; the chunks of all rounds are one ring,
    so that the first of a round sees the last of the round before; a pair counts as often as it meets; and texts of at
    most one chunk are not hashed, and see everything. `ring`: each round is filled up to a multiple of so many tokens,
    of a chunk unless given, as a model does for chunks of several sizes. `whole`: texts of at most so many tokens are
    not hashed; one chunk as released, none in the paper's reading, unless given. `itself`: a token sees itself as it
    sees others, which suits queries that are no keys. seed: of the rotations; None draws new ones at every call, from
    the seed of `attend`.

    Who sees whom depends on buckets, which `mask` is given. Without them `allowed` tells what no hashing rules out, and
    `pairs` a bound. Padding is in a bucket of its own, behind all others, and takes a place in chunks. Documents that
    lie together in a row share its chunks; they never see each other.
    Source: Reformer (Kitaev et al. 2020, arXiv 2001.04451), section 2 and appendix A (-log N is to count a pair once);
    angular LSH: Andoni et al. 2015 (arXiv 1509.02897).
    """

    rounds: int = 4
    buckets: int | tuple[int, ...] = 64
    chunk: int | None = 64
    causal: bool = True
    reading: str = "paper"
    seed: int | None = None
    before: int = 1
    after: int = 0
    whole: int | None = None
    ring: int | None = None
    itself: bool = False
    short = "hashed(4, 64, 64)"
    later = ("whole", "ring", "itself")

    def __post_init__(self) -> None:
        check_integer("Hashed", "rounds", self.rounds, 1)
        for factor in self._factors:
            check_integer("Hashed", "buckets", factor, 2)
            if factor % 2:
                raise InputError(
                    f"Hashed: buckets is {quote(self.buckets)}; each number must be even, as a direction and its "
                    f"opposite make two: take {factor - 1} or {factor + 1}"
                )
        if not self._factors or math.prod(self._factors) > LARGEST:
            raise InputError(f"Hashed: buckets is {quote(self.buckets)}; their product must be from 2 to {LARGEST}")
        check_boolean("Hashed", "causal", self.causal)
        check_boolean("Hashed", "itself", self.itself)
        if self.itself and self.reading == "released":
            raise InputError("Hashed: itself is True; in the reading 'released' a token does not see itself")
        check_choice("Hashed", "reading", self.reading, READINGS)
        for name in ("before", "after"):
            check_integer("Hashed", name, getattr(self, name), 0)
            if getattr(self, name) > MOST_LOOKS:
                raise InputError(f"Hashed: {name} is {getattr(self, name)}; it must be at most {MOST_LOOKS} chunks")
        if self.chunk is not None:
            check_integer("Hashed", "chunk", self.chunk, 1)
        elif self.reading == "released":
            raise InputError("Hashed: chunk is None; in the reading 'released' keys are seen by chunks: give a size")
        for name in ("seed", "whole"):
            if getattr(self, name) is not None:
                check_integer("Hashed", name, getattr(self, name), 0)
        fits = self.ring is None or (is_whole(self.ring, 1) and self.ring % (self.chunk or 1) == 0)
        if not fits or (self.ring is not None and self.reading != "released"):
            raise InputError(
                f"Hashed: ring is {quote(self.ring)}; it must be a multiple of chunk, {self.chunk}, in the reading "
                "'released', or None"
            )

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        distance = offsets(query_positions, key_positions)
        return distance <= 0 if self.causal else torch.ones_like(distance, dtype=torch.bool)

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return queries == 0 or keys == 0

    def __str__(self) -> str:
        chunks = "whole buckets" if self.chunk is None else f"chunks of {self.chunk}"
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        ways = "" if self.causal else ", both ways"
        released = ", as released" if self.reading == "released" else ""
        return f"hashed, {rounds} of {' x '.join(map(str, self._factors))} buckets, {chunks}{ways}{released}"

    def pieces(self) -> Pieces:
        return Pieces(hashes=self.hashes)

    @property
    def _factors(self) -> tuple[int, ...]:
        return self.buckets if isinstance(self.buckets, tuple) else (self.buckets,)

    @property
    def _whole(self) -> int:
        if self.whole is not None:
            return self.whole
        return self.chunk if self.reading == "released" and self.chunk is not None else 0

    @property
    def hashes(self) -> Hashes:
        """How tokens are put into buckets, and whom they see there."""
        return Hashes(
            rounds=self.rounds, factors=self._factors, chunk=self.chunk, before=self.before, after=self.after,
            causal=self.causal, released=self.reading == "released", seed=self.seed, whole=self._whole,
            ring=self.ring or self.chunk or 1, itself=self.itself,
        )  # fmt: skip

    def mask(
        self,
        queries: int,
        keys: int | None = None,
        query_start: int = 0,
        flags: Tensor | None = None,
        buckets: Tensor | None = None,
    ) -> Tensor:
        """The dense mask, boolean [..., queries, keys], where `buckets` [..., rounds, keys] are those of the tokens.

        Queries are keys themselves, query_start + i. The leading dimensions of `buckets` lead the mask. Raises
        InputError without buckets, for others than whole numbers of such a shape, and for impossible sizes.
        """
        grid = Grid.of(queries, keys, query_start, flags)
        if buckets is None:
            raise InputError(f"pattern: '{self}' has no mask without buckets; give integers [..., rounds, keys]")
        wanted = (self.rounds, grid.keys)
        if not isinstance(buckets, Tensor) or not _is_whole(buckets) or buckets.shape[-2:] != wanted:
            shape = f"{buckets.dtype} {list(buckets.shape)}" if isinstance(buckets, Tensor) else quote(buckets)
            raise InputError(f"pattern: buckets are {shape}; they must be integers [..., {wanted[0]}, {wanted[1]}]")
        self.hashes.check(buckets)
        if query_start < 0 or query_start + queries > grid.keys:
            raise InputError(
                f"pattern: queries {query_start} to {query_start + queries} are not all among the {grid.keys} keys, "
                "whose buckets they have"
            )
        own = slice(query_start, query_start + queries)
        places = self.hashes.coordinates(buckets)
        seen = self.hashes.meetings(places[..., own], places, grid.keys) > 0
        if self.causal:
            seen &= self.allowed(grid.query_positions, grid.key_positions)
        itself = grid.query_positions[:, None] == grid.key_positions
        if not self.itself:
            seen &= ~itself
        return seen | (itself & ~seen.any(-1, keepdim=True))

    def _dense(self, grid: Grid) -> Tensor:
        """An example, for pictures: of tokens whose directions are drawn, where all queries are keys."""
        first, last = grid.query_start, grid.query_start + grid.queries
        if first < 0 or last > grid.keys or not grid.keys:
            return super()._dense(grid)
        drawn = torch.randn(1, 1, grid.keys, EXAMPLE, generator=torch.Generator().manual_seed(self.seed or 0))
        buckets = self.hashes.hashed(drawn, self.seed or 0)[0, 0]
        seen = self.mask(grid.queries, grid.keys, first, buckets=buckets).to(grid.device)
        return seen.expand(*grid.lead, grid.queries, grid.keys)

    def _count(self, grid: Grid) -> int:
        """At most: what the chunks of all rounds hold."""
        if self.chunk is None:
            most = grid.keys
        else:
            near = self.rounds * self.chunk * (self.before + 1 + self.after)
            most = grid.keys if self.hashes.is_whole(grid.keys) else near
        if not self.causal:
            return grid.copies * grid.queries * min(grid.keys, most)
        seen = (grid.query_positions + 1).clamp(0, min(grid.keys, most))
        return grid.copies * int(seen.sum())

    @classmethod
    def _from_fields(cls, values: dict[str, Any], read: Any) -> Pattern:
        buckets = values["buckets"]
        return cls(**(values | {"buckets": tuple(buckets) if isinstance(buckets, list) else buckets}))


def _is_whole(x: Tensor) -> bool:
    return not x.dtype.is_floating_point and x.dtype != torch.bool
