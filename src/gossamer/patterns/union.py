"""Several patterns at once: a query sees what any of them lets it see."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import or_
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.patterns.base import Pattern
from gossamer.patterns.fixed import Fixed
from gossamer.patterns.global_tokens import Global
from gossamer.patterns.grid import Grid
from gossamer.patterns.per_head import PerHead
from gossamer.patterns.strided import Strided
from gossamer.patterns.window import Window

__all__ = ["Union", "unite"]


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
    def causal(self) -> bool:
        return all(part.causal for part in self.parts)

    @property
    def exact(self) -> bool:
        """Whether sparse kernels compute this union exactly; if not, only the dense reference does."""
        return all(one._exact_with(other) or other._exact_with(one) for one, other in combinations(self.parts, 2))

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
        merged = _canonical(single for part in parts for single in _parts(read(part)))
        return merged[0] if len(merged) == 1 else cls(merged)

    def _count(self, grid: Grid) -> int:
        """In closed form where nothing is flagged, for a window alone or beside Strided or Fixed."""
        if grid.flags is None:
            unflagged = [part for part in self.parts if part != Global()]
            if len(unflagged) == 1:
                return unflagged[0]._count(grid)
            one, other = unflagged[0], unflagged[-1]
            if len(unflagged) == 2 and isinstance(one, Fixed | Strided) and isinstance(other, Window):
                return other._count(grid) + one._count_beside(other, grid)
        return super()._count(grid)

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        """With global tokens: everything for a flagged query; else the flagged keys and the rest's unflagged ones."""
        if Global() not in self.parts:
            return self._row_sums_without_flags(grid, values)
        rest = reduce(or_, (part for part in self.parts if part != Global()))
        if grid.flags is None or grid.query_flags is None:
            return rest._row_sums(grid, values)
        flagged = (values * grid.flags).sum(-1, keepdim=True)
        others = flagged + rest._row_sums(grid, values * ~grid.flags)
        return torch.where(grid.query_flags, values.sum(-1, keepdim=True), others)

    def _row_sums_without_flags(self, grid: Grid, values: Tensor) -> Tensor:
        """A window, and what the other part sees beside it."""
        one, other = self.parts[0], self.parts[-1]
        if len(self.parts) == 2 and isinstance(one, Fixed | Strided) and isinstance(other, Window):
            return other._row_sums(grid, values) + one._row_sums_beside(other, grid, values)
        return super()._row_sums(grid, values)


def unite(one: Pattern, other: Pattern) -> Pattern:
    """`one | other`: merged where one pattern says it all, else a `Union` in its fixed order."""
    if one == other:
        return one
    parts = _canonical((*_parts(one), *_parts(other)))
    return parts[0] if len(parts) == 1 else Union(parts)


def _parts(pattern: Pattern) -> tuple[Pattern, ...]:
    return pattern.parts if isinstance(pattern, Union) else (pattern,)


def _canonical(parts: Iterable[Pattern]) -> tuple[Pattern, ...]:
    given = list(parts)
    for part in given:
        _check_part(part)
    merged: list[Pattern] = []
    # In one order whatever it was: where several merge, the result may depend on it.
    for part in sorted(given, key=lambda part: part._sort_key()):
        merged = _with(merged, part)
    causal = [part for part in merged if part.causal]
    if Global() in merged and causal:
        raise InputError(
            f"Union: Global() cannot be joined with the causal '{causal[0]}', because a global token sees later"
            " tokens and is seen by earlier ones; leave Global() out, or let the pattern look ahead (after >= 1)"
        )
    return tuple(sorted(merged, key=lambda part: part._sort_key()))


def _check_part(part: Pattern) -> None:
    if isinstance(part, PerHead):
        raise InputError(
            f"Union: '{part}' cannot be part of a union; put the union inside each group: PerHead((A | B, heads), ...)"
        )
    if not isinstance(part, Pattern) or isinstance(part, Union):
        raise InputError(f"Union: a part is {quote(part)}; each must be a single pattern such as Window(256, 256)")


def _with(parts: list[Pattern], new: Pattern) -> list[Pattern]:
    """Add one part, merging until nothing merges."""
    for place, old in enumerate(parts):
        merged = old._merged_with(new) or new._merged_with(old)
        if merged is not None:
            return _with(parts[:place] + parts[place + 1 :], merged)
    return [*parts, new]
