"""What becomes of one model in another: the most important in a few lines, and every field of the descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gossamer.errors import plural
from gossamer.inspection.page import flops_text, size_text
from gossamer.inspection.summary import Summary
from gossamer.inspection.summary_page.layer_facts import LayerFacts
from gossamer.inspection.summary_page.wording import ratio, spans
from gossamer.models.architecture import differences

__all__ = ["Change", "changes", "layer_changes"]

Beside = tuple[LayerFacts | None, LayerFacts | None]
"""The layers of one number of both models."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """The most important in a few lines, and every field that differs, as `path: A != B`."""

    lines: tuple[str, ...]
    fields: tuple[str, ...]


def changes(first: Summary, other: Summary, stacks: Mapping[str, Sequence[Beside]]) -> Change:
    """Of two summaries, and the layers of each stack by its title."""
    lines = [f"Parameters: {first.parameters:,} → {other.parameters:,}, {_by(first.parameters, other.parameters)}."]
    sizes = [one.parameters * one.itemsize for one in (first, other)]
    lines.append(f"Weights: {size_text(sizes[0])} → {size_text(sizes[1])}, {_by(*sizes)}.")
    lengths = first.architecture.length, other.architecture.length
    lines.append(f"Tokens read at once: {lengths[0]:,} → {lengths[1]:,}, {_by(*lengths)}.")
    for title, rows in stacks.items():
        lines += _lines(title, rows)
    return Change(
        lines=(*lines, *_costs(first, other)), fields=tuple(differences(first.architecture, other.architecture))
    )


def layer_changes(first: LayerFacts | None, other: LayerFacts | None) -> dict[str, str]:
    """What differs in a layer, "A → B" by its name."""
    if first is None or other is None:
        return {"only in B" if first is None else "only in A": ""}
    ours, theirs = first.said, other.said
    names = dict.fromkeys((*ours, *theirs))
    found = {name: (ours.get(name, "none"), theirs.get(name, "none")) for name in names}
    told = {name: f"{a} → {b}" for name, (a, b) in found.items() if a != b}
    if not told and first.parameters != other.parameters:
        told = {"parameters": f"{first.parameters:,} → {other.parameters:,}"}
    return told


def _lines(title: str, rows: Sequence[Beside]) -> Iterator[str]:
    """Layers that change in the same way in one line."""
    numbers: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        told = tuple(f"{name} {said}".strip() for name, said in layer_changes(*row).items())
        if told:
            numbers.setdefault(told, []).append(i)
    for told, layers in numbers.items():
        yield f"{title if len(layers) > 1 else title.removesuffix('s')} {spans(layers)}: {'; '.join(told)}."


def _costs(first: Summary, other: Summary) -> Iterator[str]:
    for mine, theirs in zip(first.costs, other.costs, strict=True):
        work = f"{flops_text(mine.flops)} → {flops_text(theirs.flops)}, {_by(mine.flops, theirs.flops)}"
        memory = f"memory {size_text(mine.peak)} → {size_text(theirs.peak)}, {_by(mine.peak, theirs.peak)}"
        yield f"{plural(mine.length, 'token')}: {work}; {memory}."


def _by(first: float, other: float) -> str:
    return "the same" if first == other else ratio(other, first)
