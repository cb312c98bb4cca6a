"""The rectangle of queries and keys that a pattern is asked about."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns.checks import LARGEST, check_integer

__all__ = ["Grid"]

BLOCK_CELLS = 2**21
"""How many cells of a mask are built at once when one has to be counted."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Queries at positions query_start + i, keys at positions j, and which of the keys are flagged (global) tokens.

    `flags` is [..., keys] or None; its leading dimensions are those of every mask and row sum.
    A query before the first key, where query_start is below 0, or beyond the last one is never flagged.
    """

    queries: int
    keys: int
    query_start: int = 0
    flags: Tensor | None = None

    @classmethod
    def of(cls, queries: int, keys: int | None, query_start: int, flags: Tensor | None) -> "Grid":
        """Check the sizes; without `keys` the queries are the last of query_start + queries positions."""
        check_integer("pattern", "queries", queries, 0)
        check_integer("pattern", "query_start", query_start, -LARGEST)
        keys = max(0, query_start + queries) if keys is None else keys
        check_integer("pattern", "keys", keys, 0)
        _check_flags(flags, keys)
        return cls(queries, keys, query_start, flags)

    @property
    def span(self) -> int:
        """No query and key are farther apart than this."""
        return abs(self.query_start) + self.queries + self.keys

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.flags is None else self.flags.device

    @property
    def lead(self) -> torch.Size:
        """The leading (batch) dimensions of the flags."""
        return torch.Size() if self.flags is None else self.flags.shape[:-1]

    @property
    def copies(self) -> int:
        """How many texts there are: the product of the leading dimensions."""
        return math.prod(self.lead)

    @property
    def query_positions(self) -> Tensor:
        return torch.arange(self.query_start, self.query_start + self.queries, device=self.device)

    @property
    def key_positions(self) -> Tensor:
        return torch.arange(self.keys, device=self.device)

    @property
    def query_flags(self) -> Tensor | None:
        """Flags of the queries, [..., queries]."""
        if self.flags is None:
            return None
        before = max(0, min(-self.query_start, self.queries))
        flags = self.flags[..., max(0, self.query_start) : max(0, self.query_start + self.queries)]
        return torch.nn.functional.pad(flags, (before, self.queries - before - flags.shape[-1]))

    def row_blocks(self) -> Iterator[tuple[slice, "Grid"]]:
        """The same grid in blocks of rows that are small enough to be built."""
        rows = max(1, BLOCK_CELLS // max(1, self.keys * self.copies))
        for first in range(0, self.queries, rows):
            count = min(rows, self.queries - first)
            yield slice(first, first + count), Grid(count, self.keys, self.query_start + first, self.flags)


def _check_flags(flags: Tensor | None, keys: int) -> None:
    if flags is None:
        return
    if not isinstance(flags, Tensor) or flags.dtype != torch.bool:
        kind = flags.dtype if isinstance(flags, Tensor) else type(flags).__name__
        raise InputError(
            f"pattern: flags are {kind}; they must be a boolean tensor [..., keys], True for global tokens"
        )
    if flags.dim() == 0 or flags.shape[-1] != keys:
        raise InputError(f"pattern: flags have shape {list(flags.shape)}; the last dimension must be the {keys} keys")
