"""What is known of the tokens on one side of a call, the queries or the keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["UNMARKED", "TokenValues", "taken"]


@dataclass(frozen=True, kw_only=True)
class TokenValues:
    """One value a token, each tensor [batch, length] or what an index leaves of that; None where nothing is known.

    `real` is False for padding, of keys alone. Places are what blocks are counted in where no positions are given.
    bias_positions: what a table by distance reads; unknown where there is none, and for operators where indices are.
    """

    real: Tensor | None = None
    segments: Tensor | None = None
    positions: Tensor | None = None
    places: Tensor | None = None
    flags: Tensor | None = None
    bias_positions: Tensor | None = None

    @property
    def unmarked(self) -> bool:
        """Whether nothing but flags tells these tokens from one another."""
        return self.real is None and self.segments is None and self.positions is None

    def __getitem__(self, index: Any) -> TokenValues:
        """Every value at this index: of one text, of a slice of the tokens, of picked ones."""
        return TokenValues(
            real=taken(self.real, index), segments=taken(self.segments, index),
            positions=taken(self.positions, index), places=taken(self.places, index), flags=taken(self.flags, index),
            bias_positions=taken(self.bias_positions, index),
        )  # fmt: skip


UNMARKED = TokenValues()


def taken(x: Tensor | None, index: Any) -> Tensor | None:
    """`x[index]` of a value that may be unknown."""
    return None if x is None else x[index]
