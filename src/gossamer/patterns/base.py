"""What every pattern can do; a new pattern is one file that fills in the hooks."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.patterns.grid import Grid

__all__ = ["Pattern"]


class Pattern(ABC):
    """Who may attend to whom: a frozen, hashable value that knows its own maths and computes no attention.

    A subclass is a frozen dataclass, declared as `class Window(Pattern, kind="window")`. It must define `causal`,
    `allowed`, `covers` and `__str__`; it should define `_row_sums` (or `_count`), so that nothing builds a mask to
    count it, and may define `_merged_with` and `_exact_with`, which say how it joins others in a union. Kernels know
    the pieces of Gossamer's own classes alone, any other runs on `reference`. Raises InputError for a kind that another
    class has, and for a class that is derived from a finished pattern.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type["Pattern"]]] = {}
    _rank: ClassVar[int] = 0
    """Place in a union: parts of lower rank are written first."""

    def __init_subclass__(cls, kind: str, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        finished = next((one for one in cls.__mro__[1:] if one in Pattern.kinds.values()), None)
        if finished is not None:
            raise InputError(
                f"pattern {cls.__qualname__}: it is derived from {finished.__qualname__}, whose pieces and merging "
                "would be taken for its own; derive it from Pattern"
            )
        taken = Pattern.kinds.get(kind)
        # The same definition run again, as by a reload or a cell of a notebook, takes the place of its earlier self.
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise InputError(
                f"pattern {cls.__qualname__}: the kind {quote(kind)} is {taken.__module__}.{taken.__qualname__}'s; "
                "declare it with another one, since descriptions of patterns are read by their kind"
            )
        cls.kind = kind
        Pattern.kinds[kind] = cls

    @property
    @abstractmethod
    def causal(self) -> bool:
        """No query sees a later key."""

    @abstractmethod
    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        """The definition: which query may see which key, boolean [..., queries, keys].

        Positions are integers [..., queries] and [..., keys], flags booleans of the same shapes (None: nobody is
        flagged); leading dimensions broadcast. Plain tensor operations, so it can be traced and exported.
        """

    @abstractmethod
    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        """Whether every query sees every key whatever the flags: here the pattern is `Full()`."""

    @abstractmethod
    def __str__(self) -> str:
        """A few words for tables and messages."""

    def __or__(self, other: "Pattern") -> "Pattern":
        """The union: a query sees what either pattern lets it see."""
        from gossamer.patterns.union import unite

        return unite(self, other) if isinstance(other, Pattern) else NotImplemented

    def mask(
        self,
        queries: int,
        keys: int | None = None,
        query_start: int = 0,
        flags: Tensor | None = None,
        buckets: Tensor | None = None,
    ) -> Tensor:
        """The dense mask, boolean [..., queries, keys]; True where query i + query_start may see key j.

        Queries before the first key have a query_start below 0. Without `keys` the queries are the last of
        query_start + queries positions, so `mask(n)` is square. `flags`, boolean [..., keys], marks the global tokens
        by key position; its leading dimensions lead the mask. O(queries * keys) memory: for tests, pictures and short
        inputs. Raises `InputError` on impossible sizes or flags, and on `buckets`, which only hashed patterns take.
        """
        if buckets is not None:
            raise InputError(f"pattern: buckets were given to '{self}', which is not hashed; leave them out")
        return self._dense(Grid.of(queries, keys, query_start, flags))

    def pairs(self, queries: int, keys: int | None = None, query_start: int = 0, flags: Tensor | None = None) -> int:
        """How many pairs are allowed: the sum of `mask` for the same arguments, without building it."""
        return self._count(Grid.of(queries, keys, query_start, flags))

    def text(
        self,
        queries: int,
        keys: int | None = None,
        query_start: int = 0,
        flags: Tensor | None = None,
        width: int = 64,
    ) -> str:
        """A picture for the terminal: a row a query, a column a key, shaded where larger than `width` cells."""
        from gossamer.patterns.pictures import text_picture

        return text_picture(self, Grid.of(queries, keys, query_start, flags), width)

    def svg(
        self,
        queries: int,
        keys: int | None = None,
        query_start: int = 0,
        flags: Tensor | None = None,
        size: int = 320,
    ) -> str:
        """A self-contained SVG picture whose longer side is `size` pixels; global rows and columns stand out."""
        from gossamer.patterns.pictures import svg_picture

        return svg_picture(self, Grid.of(queries, keys, query_start, flags), size)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description, which `pattern_from_dict` reads back to an equal pattern."""
        return {"pattern": self.kind, **{field.name: getattr(self, field.name) for field in fields(self)}}  # type: ignore[arg-type]

    @classmethod
    def _from_fields(cls, values: dict[str, Any], read: Callable[[Any], "Pattern"]) -> "Pattern":
        """Build the pattern from its fields in a description; `read` reads a nested pattern."""
        return cls(**values)

    def _merged_with(self, other: "Pattern") -> "Pattern | None":
        """One pattern that equals the union of both, or None if there is none."""
        return self if self == other else None

    def _exact_with(self, other: "Pattern") -> bool:
        """Whether the union with the other is computed exactly by sparse kernels."""
        return False

    def _sort_key(self) -> tuple[Any, ...]:
        return (self._rank, self.kind, *(getattr(self, field.name) for field in fields(self)))  # type: ignore[arg-type]

    def _dense(self, grid: Grid) -> Tensor:
        """The mask of a grid, with the leading dimensions of its flags."""
        allowed = self.allowed(grid.query_positions, grid.key_positions, grid.query_flags, grid.flags)
        return allowed.expand(*grid.lead, grid.queries, grid.keys)

    def _count(self, grid: Grid) -> int:
        ones = torch.ones((*grid.lead, grid.keys), dtype=torch.int64, device=grid.device)
        return int(self._row_sums(grid, ones).sum())

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        """Sum of integer `values` [..., keys] over the keys each query sees, [..., queries]; here by blocks of rows."""
        sums = values.new_zeros((*values.shape[:-1], grid.queries))
        for rows, block in grid.row_blocks():
            seen = self._dense(block).double()
            weights = values.double()
            found = weights @ seen.mT if seen.dim() == 2 else (weights[..., None, :] @ seen.mT)[..., 0, :]
            sums[..., rows] = found.long()
        return sums
