"""Groups of heads with a pattern each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.patterns.base import Pattern
from gossamer.patterns.checks import check_integer, check_mask
from gossamer.patterns.grid import Grid
from gossamer.patterns.joined import joined_period, joined_prefix
from gossamer.patterns.reach import Reach, joined_reach

__all__ = ["PerHead"]


@dataclass(frozen=True, init=False, repr=False)
class PerHead(Pattern, kind="per_head"):
    """Each group of heads has its own pattern: `PerHead((Window(64, 64), 4), (Window(64, 64, dilation=2), 8))`.

    The first group takes the first heads. Masks have a dimension of heads before the queries; `pairs` sums over it.
    Source: Longformer (Beltagy et al. 2020, arXiv 2004.05150), section 3.1, a dilation for each head; Sparse
    Transformer (Child et al. 2019, arXiv 1904.10509), section 4.2, separate heads.
    """

    groups: tuple[tuple[Pattern, int], ...]

    def __init__(self, *groups: tuple[Pattern, int]) -> None:
        if not groups:
            raise InputError("PerHead: there are no groups; give at least one, as PerHead((Window(64, 64), 4))")
        for group in groups:
            _check_group(group)
        object.__setattr__(self, "groups", groups)

    @property
    def heads(self) -> int:
        """The number of heads of all groups."""
        return sum(heads for _, heads in self.groups)

    @property
    def causal(self) -> bool:
        return all(pattern.causal for pattern, _ in self.groups)

    @property
    def prefix(self) -> int | None:
        return joined_prefix(pattern for pattern, _ in self.groups)

    @property
    def period(self) -> int | None:
        return joined_period(pattern for pattern, _ in self.groups)

    @property
    def sees_flags(self) -> bool:  # type: ignore[override]
        return any(pattern.sees_flags for pattern, _ in self.groups)

    def reach(self) -> Reach | None:
        return joined_reach(pattern.reach() for pattern, _ in self.groups)

    def by_head(self, heads: int) -> tuple[tuple[Pattern, int], ...]:
        return self.groups

    @property
    def differs_by_head(self) -> bool:
        return True

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        """Boolean [..., heads, queries, keys]."""
        masks = [p.allowed(query_positions, key_positions, query_flags, key_flags) for p, _ in self.groups]
        for mask, (pattern, _) in zip(masks, self.groups, strict=True):
            check_mask(pattern, mask, query_positions.shape[-1], key_positions.shape[-1])
        shape = reduce(or_, masks).shape
        per_head = [
            mask.expand(shape) for mask, (_, heads) in zip(masks, self.groups, strict=True) for _ in range(heads)
        ]
        return torch.stack(per_head, dim=-3)

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return all(pattern.covers(queries, keys, query_start) for pattern, _ in self.groups)

    def __str__(self) -> str:
        return "per head: " + ", ".join(f"{heads} x {pattern}" for pattern, heads in self.groups)

    def __repr__(self) -> str:
        return f"PerHead({', '.join(repr(group) for group in self.groups)})"

    def to_dict(self) -> dict[str, Any]:
        return {"pattern": self.kind, "groups": [[pattern.to_dict(), heads] for pattern, heads in self.groups]}

    @classmethod
    def _from_fields(cls, values: dict[str, Any], read: Callable[[Any], Pattern]) -> Pattern:
        groups = values["groups"]
        if not isinstance(groups, list) or not all(isinstance(group, list) and len(group) == 2 for group in groups):
            raise InputError(f"pattern 'per_head': groups is {quote(groups)}; it must be a list of [pattern, heads]")
        return cls(*((read(pattern), heads) for pattern, heads in groups))

    def _dense(self, grid: Grid) -> Tensor:
        allowed = self.allowed(grid.query_positions, grid.key_positions, grid.query_flags, grid.flags)
        return allowed.expand(*grid.lead, self.heads, grid.queries, grid.keys)

    def _count(self, grid: Grid) -> int:
        return sum(heads * pattern._count(grid) for pattern, heads in self.groups)


def _check_group(group: Any) -> None:
    if not isinstance(group, tuple) or len(group) != 2 or not isinstance(group[0], Pattern):
        raise InputError(f"PerHead: a group is {group!r}; it must be (pattern, heads), as (Window(64, 64), 4)")
    if group[0].differs_by_head:
        raise InputError(f"PerHead: '{group[0]}' is inside another PerHead; list its groups in the outer one")
    if group[0].hashes is not None:
        raise InputError(f"PerHead: '{group[0]}' is hashed, which all heads of a layer are; give it a layer of its own")
    if not group[0].is_local:
        raise InputError(f"PerHead: '{group[0]}' is a ring, which all heads of a layer are; give it a layer of its own")
    check_integer("PerHead", "heads", group[1], 1)
