"""What every pattern answers, and several at once; a new pattern is one file that fills in the hooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import reduce
from operator import or_
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.patterns.checks import check_mask
from gossamer.patterns.declared import check_class, check_dataclass, fields_from_json, fields_to_json
from gossamer.patterns.grid import Grid
from gossamer.patterns.hashes import Hashes
from gossamer.patterns.joined import joined_period, joined_prefix
from gossamer.patterns.pictures import svg_picture, text_picture
from gossamer.patterns.pieces import Band, Kept, Pieces
from gossamer.patterns.reach import Reach, joined_reach
from gossamer.patterns.sums import Steps

__all__ = ["Pattern", "Union"]


class Pattern(ABC):
    """Who may attend to whom: a frozen, hashable value that knows its own maths and computes no attention.

    A subclass is a frozen dataclass, declared as `class Window(Pattern, kind="window")`. It must define `causal`,
    `allowed`, `covers` and `__str__`. What else it answers has a default that is right, and slow: one that tells no
    `pieces` runs on `reference`, a cache keeps all tokens, counting builds masks (`_row_sums`). `_merged_with` and
    `pieces_with` say how it joins others in a union. Raises InputError for a class without a kind of its own, one that
    is derived from a finished pattern, and one whose answers cannot be asked for as they are here.
    """

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Pattern]]] = {}
    short: ClassVar[str] = ""
    """How its short form for decoders is written, "strided(128)"; empty where it has none."""
    later: ClassVar[tuple[str, ...]] = ()
    """Fields that older descriptions have not, whose defaults say what was before."""
    sees_flags: ClassVar[bool] = False
    """Whether flagged (global) tokens make a difference."""
    _rank: ClassVar[int] = 0
    """Place in a union: parts of lower rank are written first."""

    def __init_subclass__(cls, kind: str | None = None, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls.kind = check_class(cls, Pattern, kind)
        Pattern.kinds[cls.kind] = cls

    def __new__(cls, *values: Any, **named: Any) -> Self:
        check_dataclass(cls)
        return super().__new__(cls)

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

    @property
    def singles(self) -> tuple[Pattern, ...]:
        """The patterns that it is the union of: itself alone, but for a `Union`."""
        return (self,)

    def by_head(self, heads: int) -> tuple[tuple[Pattern, int], ...]:
        """The pattern of each group of heads and their number; all `heads` have this one, but in `PerHead`."""
        return ((self, heads),)

    @property
    def differs_by_head(self) -> bool:
        """Whether masks have a dimension of heads."""
        return False

    @property
    def period(self) -> int | None:
        """Positions moved by so much look alike: 1 where distances alone count, None where they always differ."""
        return None

    @property
    def prefix(self) -> int | None:
        """From this position on no query sees a later key, and before it none sees one from it on; None: no such.

        0 is causal. A decoder ignores what is to be told inside the prefix, and takes no shorter prompts.
        """
        return 0 if self.causal else None

    @property
    def band(self) -> Band | None:
        """The band around each query that it is, where it is nothing else: what others are joined with exactly."""
        return None

    @property
    def is_local(self) -> bool:
        """Whether positions and flags of two tokens say if they see each other: neither buckets nor the ends do."""
        return self.hashes is None

    @property
    def hashes(self) -> Hashes | None:
        """How it hashes tokens, of a pattern by which who sees whom depends on them."""
        return None

    def pieces(self) -> Pieces | None:
        """The disjoint pieces that kernels compute it by, or None where it is computed pair by pair."""
        return None

    def pieces_with(self, window: Band) -> Pieces | None:
        """The disjoint pieces of its union with a window, or None where it is computed pair by pair."""
        return None

    def keeps(self) -> Kept:
        """What a cache keeps for the queries that are still to come, of a pattern with a `prefix`."""
        return Kept(recent=None)

    def sees(self, position: int) -> Tensor:
        """The positions that the unflagged query at `position` sees up to its own, int64, rising."""
        keys = torch.arange(position + 1)
        return keys[self.allowed(keys[-1:], keys)[0]]

    def reach(self) -> Reach | None:
        """How far queries see, None where nobody bounds it."""
        return None

    def among(self, tokens: int) -> Pattern:
        """What it is among the first so many tokens; another pattern where that is simpler."""
        return self

    def walks(self) -> tuple[Pattern, ...]:
        """Parts whose union it is, each with an order of queries in which neighbours share keys: see `step`."""
        return self.singles

    @property
    def step(self) -> int:
        """Queries so many tokens apart share keys."""
        return 1

    def near(
        self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None
    ) -> Tensor | None:
        """Which keys one of a few queries may see, boolean [keys], one too many rather than too few.

        at: the queries' positions, keys: the keys', flags: of both. None where every pair has to be asked about.
        """
        return None

    def __or__(self, other: Pattern) -> Pattern:
        """The union: a query sees what either pattern lets it see."""
        return _unite(self, other) if isinstance(other, Pattern) else NotImplemented

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
        return svg_picture(self, Grid.of(queries, keys, query_start, flags), size)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready description, which `pattern_from_dict` reads back to an equal pattern."""
        return {"pattern": self.kind, **fields_to_json(self)}

    @classmethod
    def _from_fields(cls, values: dict[str, Any], read: Callable[[Any], Pattern]) -> Pattern:
        """Build the pattern from its fields in a description; `read` reads a nested pattern."""
        return cls(**fields_from_json(cls, values, read))

    def _merged_with(self, other: Pattern) -> Pattern | None:
        """One pattern that equals the union of both, or None if there is none."""
        return self if self == other else None

    @classmethod
    def from_numbers(cls, *numbers: int) -> Pattern:
        """The pattern of a decoder that its short form names, by the numbers in it."""
        return cls(*numbers)

    def _sort_key(self) -> tuple[Any, ...]:
        return (self._rank, self.kind, *(getattr(self, field.name) for field in fields(self)))  # type: ignore[arg-type]

    def _dense(self, grid: Grid) -> Tensor:
        """The mask of a grid, with the leading dimensions of its flags."""
        allowed = self.allowed(grid.query_positions, grid.key_positions, grid.query_flags, grid.flags)
        check_mask(self, allowed, grid.queries, grid.keys)
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

    def _count_beside(self, window: Steps, grid: Grid) -> int | None:
        """Pairs that a causal pattern has and a window with these steps back has not; None: count by row sums."""
        return None

    def _row_sums_joined(self, rest: Pattern, grid: Grid, values: Tensor) -> Tensor | None:
        """Row sums of its union with what sees no flags, for one that does; None: by blocks of rows."""
        return None

    def _row_sums_beside(self, window: Steps, grid: Grid, values: Tensor) -> Tensor | None:
        """Row sums over those pairs; None: by blocks of rows."""
        return None


@dataclass(frozen=True)
class Union(Pattern, kind="union"):
    """Query i sees key j when any of the parts allows it; written `A | B`.

    The parts are in a fixed order and none of them can be merged with another, so equal unions are equal values.
    Source: Longformer (Beltagy et al. 2020, arXiv 2004.05150), section 3.1, a window with global tokens.
    """

    parts: tuple[Pattern, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple) or len(self.parts) < 2:
            raise InputError(f"Union: parts is {quote(self.parts)}; it must be a tuple of two patterns or more")
        if _canonical(self.parts) != self.parts:
            shown = " | ".join(repr(part) for part in self.parts)
            raise InputError(f"Union: parts can be merged or are out of order; write {shown} instead")

    @property
    def singles(self) -> tuple[Pattern, ...]:
        return self.parts

    @property
    def causal(self) -> bool:
        return all(part.causal for part in self.parts)

    @property
    def exact(self) -> bool:
        """Whether sparse kernels compute this union exactly; if not, only the dense reference does."""
        return self.pieces() is not None

    @property
    def prefix(self) -> int | None:
        return joined_prefix(self.parts)

    @property
    def sees_flags(self) -> bool:  # type: ignore[override]
        return any(part.sees_flags for part in self.parts)

    @property
    def period(self) -> int | None:
        return joined_period(self.parts)

    def pieces(self) -> Pieces | None:
        """Exact for a window beside one other pattern that knows its pieces there."""
        split = self._split
        return None if split is None else split.other.pieces_with(split.band)

    def keeps(self) -> Kept:
        return reduce(Kept.joined, (part.keeps() for part in self.parts))

    def sees(self, position: int) -> Tensor:
        return torch.cat([part.sees(position) for part in self.parts]).unique()

    def reach(self) -> Reach | None:
        return joined_reach(part.reach() for part in self.parts)

    def walks(self) -> tuple[Pattern, ...]:
        return tuple(one for part in self.parts for one in part.walks())

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        return reduce(
            or_, (part.allowed(query_positions, key_positions, query_flags, key_flags) for part in self.parts)
        )

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        """Whether one of the parts covers; parts that only cover together (other than by merging) do not count."""
        return any(part.covers(queries, keys, query_start) for part in self.parts)

    def __str__(self) -> str:
        return " | ".join(str(part) for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        return {"pattern": self.kind, "parts": [part.to_dict() for part in self.parts]}

    @classmethod
    def _from_fields(cls, values: dict[str, Any], read: Callable[[Any], Pattern]) -> Pattern:
        parts = values["parts"]
        if not isinstance(parts, list) or len(parts) < 2:
            raise InputError(f"pattern 'union': parts is {quote(parts)}; it must be a list of two patterns or more")
        merged = _canonical(single for part in parts for single in read(part).singles)
        return merged[0] if len(merged) == 1 else cls(merged)

    @property
    def _split(self) -> _Split | None:
        """A window and one other part, where these are all."""
        if len(self.parts) != 2:
            return None
        for window, other in (self.parts, self.parts[::-1]):
            if window.band is not None:
                return _Split(window, window.band, other)
        return None

    def _count(self, grid: Grid) -> int:
        """In closed form where nothing is flagged, for a window alone or beside a pattern that knows it."""
        unflagged = [part for part in self.parts if not part.sees_flags]
        if grid.flags is None and len(unflagged) == 1:
            return unflagged[0]._count(grid)
        split = self._split
        beside = None if split is None or grid.flags is not None else split.other._count_beside(split.steps, grid)
        return super()._count(grid) if split is None or beside is None else split.window._count(grid) + beside

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        split = self._split
        seeing = [part for part in self.parts if part.sees_flags]
        found = None
        if len(seeing) == 1:
            rest = reduce(or_, (part for part in self.parts if not part.sees_flags))
            found = seeing[0]._row_sums_joined(rest, grid, values)
        elif split is not None and not seeing:
            beside = split.other._row_sums_beside(split.steps, grid, values)
            found = None if beside is None else split.window._row_sums(grid, values) + beside
        return super()._row_sums(grid, values) if found is None else found


@dataclass(frozen=True)
class _Split:
    """A window of a union, its band, and the other part."""

    window: Pattern
    band: Band
    other: Pattern

    @property
    def steps(self) -> Steps:
        """How the window steps back."""
        assert self.band.low is not None
        return Steps(-self.band.low, self.band.dilation)


def _unite(one: Pattern, other: Pattern) -> Pattern:
    """`one | other`: merged where one pattern says it all, else a `Union` in its fixed order."""
    if one == other:
        return one
    parts = _canonical((*one.singles, *other.singles))
    return parts[0] if len(parts) == 1 else Union(parts)


def _canonical(parts: Iterable[Pattern]) -> tuple[Pattern, ...]:
    given = list(parts)
    for part in given:
        _check_part(part)
    merged: list[Pattern] = []
    # In one order whatever it was: where several merge, the result may depend on it.
    for part in sorted(given, key=lambda part: part._sort_key()):
        merged = _with(merged, part)
    causal = [part for part in merged if part.causal]
    flagged = [part for part in merged if part.sees_flags]
    if flagged and causal:
        raise InputError(
            f"Union: {flagged[0]!r} cannot be joined with the causal '{causal[0]}', because a global token sees later"
            " tokens and is seen by earlier ones; leave one out, or let the pattern look ahead (after >= 1)"
        )
    return tuple(sorted(merged, key=lambda part: part._sort_key()))


def _check_part(part: Pattern) -> None:
    if isinstance(part, Pattern) and (part.differs_by_head or not part.is_local):
        by_head = "put the union inside each group: PerHead((A | B, heads), ...)"
        remedy = by_head if part.differs_by_head else "give it a layer of its own"
        raise InputError(f"Union: '{part}' cannot be part of a union; {remedy}")
    if not isinstance(part, Pattern) or len(part.singles) > 1:
        raise InputError(f"Union: a part is {quote(part)}; each must be a single pattern such as Window(256, 256)")


def _with(parts: list[Pattern], new: Pattern) -> list[Pattern]:
    """Add one part, merging until nothing merges."""
    for place, old in enumerate(parts):
        merged = old._merged_with(new) or new._merged_with(old)
        if merged is not None:
            return _with(parts[:place] + parts[place + 1 :], merged)
    return [*parts, new]
