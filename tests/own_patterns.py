"""Patterns of one's own, made outside of the package: what they must say, and what they may."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns import Band, Kept, Pattern, Pieces

__all__ = ["KnownPowersOfTwo", "Multiples", "PowersOfTwo"]

REACH = 12
"""Powers up to 2^12: no text of a test is longer."""


@dataclass(frozen=True)
class PowersOfTwo(Pattern, kind="powers of two, of a test"):
    """Query i sees key j when i - j is zero or a power of two: nothing but the definition."""

    @property
    def causal(self) -> bool:
        return True

    def allowed(self, query_positions: Tensor, key_positions: Tensor, *flags: Tensor | None) -> Tensor:
        distance = query_positions[..., :, None] - key_positions[..., None, :]
        return (distance >= 0) & (distance & (distance - 1) == 0)

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return bool(self.mask(queries, keys, query_start).all())

    def __str__(self) -> str:
        return "powers of two"


@dataclass(frozen=True)
class KnownPowersOfTwo(Pattern, kind="known powers of two, of a test"):
    """The same, with its pieces: a band of each distance."""

    causal = True

    def allowed(self, query_positions: Tensor, key_positions: Tensor, *flags: Tensor | None) -> Tensor:
        return PowersOfTwo().allowed(query_positions, key_positions)

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return PowersOfTwo().covers(queries, keys, query_start)

    def __str__(self) -> str:
        return "known powers of two"

    @property
    def period(self) -> int:
        return 1

    def pieces(self) -> Pieces:
        return Pieces(tuple(Band(low=-far, high=-far) for far in (0, *(2**power for power in range(REACH + 1)))))

    def keeps(self) -> Kept:
        return Kept(2**REACH + 1)


@dataclass(frozen=True)
class Multiples(Pattern, kind="multiples, of a test"):
    """Query i sees the earlier keys at multiples of three, and itself: it matters where position 0 is."""

    causal = True

    def allowed(self, query_positions: Tensor, key_positions: Tensor, *flags: Tensor | None) -> Tensor:
        distance = key_positions[..., None, :] - query_positions[..., :, None]
        return (distance == 0) | ((distance < 0) & (key_positions[..., None, :] % 3 == 0))

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return False

    def __str__(self) -> str:
        return "multiples"


for own in (PowersOfTwo, KnownPowersOfTwo, Multiples):
    Pattern.kinds.pop(own.kind)  # other tests list the kinds that there are
assert torch.equal(KnownPowersOfTwo().mask(40), PowersOfTwo().mask(40))
