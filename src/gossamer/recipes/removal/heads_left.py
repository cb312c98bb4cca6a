"""Which heads and columns of an attention stay when some go: equal groups where heads share their keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.models.bricks import Attention
from gossamer.patterns import Pattern, PerHead
from gossamer.patterns.head_groups import groups_of

__all__ = ["HeadsLeft", "heads_left", "pattern_of_heads"]

Columns = Int[Tensor, "columns"]


@dataclass(frozen=True, kw_only=True)
class HeadsLeft:
    """What stays of one weight set of attention.

    heads: their old numbers, rising; `silenced` of them give nothing and stay so that groups which share their keys are
    equal. key_heads: the old numbers of the heads of keys and values. scores, values: the columns inside a head that
    queries and keys, and values and outputs, keep, for each of `key_heads`.
    """

    heads: tuple[int, ...]
    silenced: tuple[int, ...]
    key_heads: tuple[int, ...]
    scores: tuple[Columns, ...]
    values: tuple[Columns, ...]

    @property
    def head_size(self) -> int:
        """Columns of each head; 0 where none stays."""
        return len(self.scores[0]) if self.scores else 0

    def maps(self, old: Attention) -> dict[str, Columns]:
        """Rows and columns that stay, by the names that `gossamer.recipes.students.narrow_maps` has for the sides."""
        number, size = old.weights, old.head_size
        sharing = _sharing(old)
        at = {key_head: i for i, key_head in enumerate(self.key_heads)}
        of_head = [(head, at[head // sharing]) for head in self.heads]
        return {
            f"queries.{number}": _joined([head * size + self.scores[i] for head, i in of_head]),
            f"heads.{number}": _joined([head * size + self.values[i] for head, i in of_head]),
            f"keys.{number}": _joined([head * size + self.scores[i] for i, head in enumerate(self.key_heads)]),
            f"values.{number}": _joined([head * size + self.values[i] for i, head in enumerate(self.key_heads)]),
        }

    def silent_columns(self) -> Columns:
        """Columns of the new output map that are zero."""
        places = [self.heads.index(head) for head in self.silenced]
        return _joined([place * self.head_size + torch.arange(self.head_size) for place in places])


def heads_left(
    old: Attention,
    live: Collection[int],
    scores: Sequence[Columns] | None = None,
    values: Sequence[Columns] | None = None,
) -> HeadsLeft:
    """What stays where these heads do, with all columns unless `scores` and `values` name those of each key head."""
    sharing = _sharing(old)
    members = {group: sorted(group_heads) for group, group_heads in groupby(sorted(live), lambda head: head // sharing)}
    most = max(map(len, members.values()), default=0)
    heads: list[int] = []
    silenced: list[int] = []
    for group, group_heads in members.items():
        others = [head for head in range(group * sharing, (group + 1) * sharing) if head not in group_heads]
        fill = others[: most - len(group_heads)]
        silenced += fill
        heads += sorted([*group_heads, *fill])
    every = torch.arange(old.head_size)
    return HeadsLeft(
        heads=tuple(heads),
        silenced=tuple(silenced),
        key_heads=tuple(members),
        scores=tuple(every if scores is None else scores[group] for group in members),
        values=tuple(every if values is None else values[group] for group in members),
    )


def pattern_of_heads(old: Attention, heads: Sequence[int]) -> Pattern:
    """The pattern of these heads of an attention; where there are none, one of those that there were."""
    if not old.pattern.differs_by_head:
        return old.pattern
    of_head = [pattern for pattern, count in groups_of(old.pattern, old.heads) for _ in range(count)]
    if not heads:
        return of_head[0]
    runs = [(pattern, len(list(run))) for pattern, run in groupby(of_head[head] for head in heads)]
    return runs[0][0] if len(runs) == 1 else PerHead(*runs)


def _sharing(old: Attention) -> int:
    """How many heads have the same keys."""
    return old.heads // (old.key_heads or old.heads) if old.heads else 1


def _joined(parts: Sequence[Columns]) -> Columns:
    return torch.cat(list(parts)) if parts else torch.empty(0, dtype=torch.int64)
