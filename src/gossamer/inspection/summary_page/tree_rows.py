"""The parts of one model or two as one tree, in which parts of the same name stand beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from gossamer.inspection.summary_page.wording import number_change
from gossamer.inspection.tree import Node

__all__ = ["TreeRow", "tree_row"]


@dataclass(frozen=True, kw_only=True)
class TreeRow:
    """A part: of each model its node, None where it has no such part. `mark`: what differs, in words; "" if nothing."""

    name: str
    nodes: tuple[Node | None, ...]
    mark: str
    children: tuple[TreeRow, ...]


def tree_row(nodes: Sequence[Node | None]) -> TreeRow:
    """One part of one model or two, with all that is in it."""
    there = [one for one in nodes if one is not None]
    lists = [() if one is None else one.children for one in nodes]
    pairs = [(one,) for one in lists[0]] if len(lists) == 1 else _aligned(*lists)
    children = tuple(tree_row(pair) for pair in pairs)
    return TreeRow(
        name=there[0].name, nodes=tuple(nodes), mark=_mark(nodes, children) if len(nodes) == 2 else "",
        children=children,
    )  # fmt: skip


def _mark(nodes: Sequence[Node | None], children: Sequence[TreeRow]) -> str:
    first, other = nodes
    if first is None or other is None:
        return "only in A" if other is None else "only in B"
    if first.parameters != other.parameters:
        return f"differs: {number_change(first.parameters, other.parameters)} parameters"
    if first.text != other.text:
        return "differs"
    return "differs inside" if any(one.mark for one in children) else ""


def _aligned(first: Sequence[Node], other: Sequence[Node]) -> list[tuple[Node | None, Node | None]]:
    """Parts of one name beside each other, the others in their places."""
    keys = _keys(first), _keys(other)
    pairs: list[tuple[Node | None, Node | None]] = []
    for kind, low, high, start, end in SequenceMatcher(None, *keys, autojunk=False).get_opcodes():
        if kind == "equal":
            pairs += zip(first[low:high], other[start:end], strict=True)
        else:
            pairs += [(one, None) for one in first[low:high]]
            pairs += [(None, one) for one in other[start:end]]
    return pairs


def _keys(nodes: Sequence[Node]) -> list[tuple[str, int]]:
    """Names, the second of one name told from the first."""
    seen: Counter[str] = Counter()
    keys = []
    for one in nodes:
        keys.append((one.name, seen[one.name]))
        seen[one.name] += 1
    return keys
