"""What two models differ in, every field of their descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.inspection.page import flops_text, size_text
from gossamer.inspection.summary import Summary
from gossamer.inspection.summary_page.wording import number_change, ratio
from gossamer.models.architecture import differences

__all__ = ["Change", "changes"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """The most important in a few lines, and every field that differs, as `path: A != B`."""

    lines: tuple[str, ...]
    fields: tuple[str, ...]


def changes(first: Summary, other: Summary) -> Change:
    """What becomes of the first model in the other one."""
    fields = tuple(differences(first.architecture, other.architecture))
    lines = [f"parameters: {number_change(first.parameters, other.parameters)}"]
    sizes = [one.parameters * one.itemsize for one in (first, other)]
    if sizes[0] != sizes[1]:
        lines.append(f"bytes of weights: {size_text(sizes[0])} → {size_text(sizes[1])} ({ratio(sizes[1], sizes[0])})")
    lengths = first.architecture.length, other.architecture.length
    lines.append(f"tokens read at once: {number_change(*lengths)}")
    lines += _costs(first, other)
    return Change(lines=tuple(lines), fields=fields)


def _costs(first: Summary, other: Summary) -> Sequence[str]:
    lines = []
    for mine, theirs in zip(first.costs, other.costs, strict=True):
        work = f"{flops_text(mine.flops)} → {flops_text(theirs.flops)} ({ratio(theirs.flops, mine.flops)})"
        memory = f"{size_text(mine.peak)} → {size_text(theirs.peak)} ({ratio(theirs.peak, mine.peak)})"
        lines.append(f"{mine.length:,} tokens: {work}, memory {memory}")
    return lines
