"""How tokens are hashed, and who meets whom: of a hashed pattern what its kernels are told."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import InputError

__all__ = ["Hashes"]

SLICE = 2**22
"""So many numbers are rotated at once."""


@dataclass(frozen=True, kw_only=True)
class Hashes:
    """Numbers of a hashed pattern; see `Hashed`, whose fields they are. factors: their product is that of buckets.

    Of each round every token has a *coordinate*: which chunk it lies in, or without chunks its bucket; coordinates of
    tokens that may not meet, for their buckets or documents, lie far apart. A query meets a key of the same round where
    the key's coordinate less the query's is from `low` to `high`. In a ring it meets keys of other rounds so, too, as
    `shifts` says.
    """

    rounds: int
    factors: tuple[int, ...]
    chunk: int | None
    before: int
    after: int
    causal: bool
    released: bool
    seed: int | None
    whole: int
    ring: int
    itself: bool

    @property
    def numbers(self) -> list[int]:
        """All of them, as an operator of torch can take them."""
        chunk, seed = (-1 if one is None else one for one in (self.chunk, self.seed))
        looks = self.before, self.after, self.causal, self.released
        return [self.rounds, chunk, *looks, seed, self.whole, self.ring, self.itself, *self.factors]

    @classmethod
    def from_numbers(cls, numbers: list[int]) -> Hashes:
        """What `numbers` told."""
        rounds, chunk, before, after, causal, released, seed, whole, ring, itself, *factors = numbers
        return cls(
            rounds=rounds, factors=tuple(factors), chunk=None if chunk < 0 else chunk, before=before, after=after,
            causal=bool(causal), released=bool(released), seed=None if seed < 0 else seed, whole=whole, ring=ring,
            itself=bool(itself),
        )  # fmt: skip

    @property
    def low(self) -> int:
        return 0 if self.chunk is None else -self.before

    @property
    def high(self) -> int:
        return 0 if self.chunk is None else self.after

    @property
    def width(self) -> int:
        """Coordinates so far apart meet nowhere."""
        return self.high - self.low + 1

    @property
    def buckets(self) -> int:
        """How many there are."""
        return math.prod(self.factors)

    def is_whole(self, tokens: int) -> bool:
        """Whether so few tokens are not hashed."""
        return tokens <= self.whole

    def chunks_of(self, tokens: int) -> int:
        """Of one round."""
        if self.chunk is None or self.is_whole(tokens):
            return 1
        return -(-tokens // self.ring) * self.ring // self.chunk

    def chunk_of(self, tokens: int) -> int:
        """Tokens of a chunk, of which so many tokens fill one or more."""
        return tokens if self.chunk is None or self.is_whole(tokens) else min(self.chunk, tokens)

    def shifts(self, tokens: int) -> tuple[int, ...]:
        """Rounds from the query's to the key's: 0 alone, or those that the ring lets it reach, some several times."""
        chunks = self.chunks_of(tokens)
        if not self.released or not chunks or self.is_whole(tokens):
            return (0,)
        return tuple(range(-self.before // chunks, -(-self.after // chunks) + 1))

    def check(self, buckets: Tensor) -> None:
        """InputError for buckets that there are not; those of other devices and traced ones are not looked at."""
        if buckets.device.type != "cpu" or torch.compiler.is_compiling() or not buckets.numel():
            return
        least, most = int(buckets.min()), int(buckets.max())
        if least < 0 or most >= self.buckets:
            raise InputError(f"buckets are from {least} to {most}; they must be from 0 to {self.buckets - 1}")

    @torch.no_grad()
    def hashed(
        self, x: Float[Tensor, "batch heads length size"], seed: int
    ) -> Int[Tensor, "batch heads rounds length"]:
        """The bucket of every token in every round: the largest of its rotated numbers and their opposites.

        The rotations [heads, size, rounds, sum of factors / 2] are drawn by `seed` on the CPU, as Reformer's code does.
        """
        batch, heads, length, size = x.shape
        wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
        half = sum(self.factors) // 2
        generator = torch.Generator().manual_seed(seed)
        rotations = torch.randn(heads, size, self.rounds, half, generator=generator, dtype=wide.dtype).to(x.device)
        step = max(1, SLICE // max(1, batch * heads * self.rounds * half))
        found = [self._largest(wide[:, :, at : at + step], rotations) for at in range(0, length, step)]
        return torch.cat(found, 3) if found else x.new_empty(batch, heads, self.rounds, 0, dtype=torch.int64)

    def _largest(self, x: Tensor, rotations: Tensor) -> Tensor:
        rotated = torch.einsum("bhtd,hdrf->bhrtf", x, rotations)
        bucket, product = torch.zeros(rotated.shape[:-1], dtype=torch.int64, device=x.device), 1
        for factor, part in zip(self.factors, rotated.split([one // 2 for one in self.factors], -1), strict=True):
            bucket = bucket + product * torch.cat([part, -part], -1).argmax(-1)
            product *= factor
        return bucket

    @torch.no_grad()
    def coordinates(
        self,
        buckets: Int[Tensor, "*lead rounds length"],
        real: Tensor | None = None,
        segments: Tensor | None = None,
        tokens: int | None = None,
    ) -> Int[Tensor, "*lead used_rounds length"]:
        """The coordinates of tokens that see each other. real, segments: [*lead, length] or what broadcasts to it.

        tokens: how many keys there are, where these are not the keys alone.
        """
        *lead, _, length = buckets.shape
        whole = self.is_whole(length if tokens is None else tokens)
        if whole:
            buckets = torch.zeros_like(buckets[..., :1, :])
        documents = None if segments is None else _ranks(segments).expand(*lead, length)[..., None, :]
        group = buckets
        if documents is not None:
            group = documents * (self.buckets + 1) + group
        if real is not None:
            last = torch.iinfo(torch.int64).max
            group = group.masked_fill(~real.expand(*lead, length)[..., None, :], last)
        if self.chunk is None:
            return _ranks(group)
        order = group.argsort(dim=-1, stable=True)
        rank = torch.empty_like(order).scatter_(-1, order, torch.arange(length, device=order.device).expand_as(order))
        chunk = torch.zeros_like(rank) if whole else rank // self.chunk
        if not self.released:
            return chunk + self.width * _ranks(group, order)
        if documents is None:
            return chunk
        if real is not None:
            # Behind all documents, as it lies in the order.
            padding = ~real.expand(*lead, length)[..., None, :]
            documents = documents.masked_fill(padding, length)
        # In a ring chunks are compared with those of other rounds, moved by all chunks of a round.
        apart = self.width + self.chunks_of(length) * (1 + max(map(abs, self.shifts(length))))
        return chunk + apart * documents

    def meetings(
        self, queries: Int[Tensor, "*lead rounds queries"], keys: Int[Tensor, "*lead rounds keys"], tokens: int
    ) -> Int[Tensor, "*lead queries keys"]:
        """How often each query meets each key, by their coordinates; tokens: of how many they are."""
        return self.meetings_by_round(queries, keys, tokens).sum(-3)

    def meetings_by_round(
        self, queries: Int[Tensor, "*lead rounds queries"], keys: Int[Tensor, "*lead rounds keys"], tokens: int
    ) -> Int[Tensor, "*lead rounds queries keys"]:
        """The same in each round of the queries."""
        total = torch.zeros(*queries.shape, keys.shape[-1], dtype=torch.int64, device=queries.device)
        for shift in self.shifts(tokens):
            moved = keys.roll(-shift, -2) + shift * self.chunks_of(tokens)
            apart = moved[..., None, :] - queries[..., :, None]
            total += (apart >= self.low) & (apart <= self.high)
        return total


def _ranks(values: Tensor, order: Tensor | None = None) -> Tensor:
    """The number of each value among those of its row, [..., length], which equal values share.

    order: that of the values, where it is known.
    """
    if values.shape[-1] == 0:
        return values
    order = values.argsort(dim=-1) if order is None else order
    ordered = values.gather(-1, order)
    new = torch.nn.functional.pad((ordered.diff(dim=-1) != 0).long(), (1, 0)).cumsum(-1)
    return torch.empty_like(new).scatter_(-1, order, new)
