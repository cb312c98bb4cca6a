"""The layers of one model or two, those of one number beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest

from gossamer.errors import plural
from gossamer.inspection.page import flops_text, size_text
from gossamer.inspection.summary import Summary
from gossamer.inspection.summary_page.changes import layer_changes
from gossamer.inspection.summary_page.charts import bar_chart
from gossamer.inspection.summary_page.layer_facts import LayerFacts, layer_facts
from gossamer.inspection.summary_page.wording import spans

__all__ = ["LayerRow", "Stack", "stacks_of"]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """Neighbours that are alike in every model: their numbers, what they are in each (None: none), what differs."""

    numbers: str
    facts: tuple[LayerFacts | None, ...]
    mark: str


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The layers of one stack, those of one number beside each other."""

    title: str
    layers: tuple[tuple[LayerFacts | None, ...], ...]
    charts: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[LayerFacts | None, LayerFacts | None]]:
        """The layers of each number of two models."""
        return [(row[0], row[1]) for row in self.layers]

    @property
    def rows(self) -> Iterator[LayerRow]:
        """Neighbours that are alike as one."""
        for _, run in groupby(enumerate(self.layers), key=lambda item: [one and one.alike for one in item[1]]):
            members = list(run)
            facts = members[0][1]
            mark = "" if len(facts) == 1 else ", ".join(layer_changes(facts[0], facts[1])) or "same"
            yield LayerRow(numbers=spans(i for i, _ in members), facts=facts, mark=mark)


def stacks_of(shown: Sequence[Summary], sets: Sequence[Mapping[str, int]]) -> list[Stack]:
    """Those of the model, then those of its decoder; `sets`: of each model, the parameters of its weight sets."""
    stacks = []
    for of_decoder, title in ((False, "Layers"), (True, "Decoder layers")):
        told = [layer_facts(one, known, of_decoder) for one, known in zip(shown, sets, strict=True)]
        layers = tuple(zip_longest(*told))
        if layers:
            charts = _layer_charts([one.length for one in shown[0].costs], layers)
            stacks.append(Stack(title=title, layers=layers, charts=tuple(charts)))
    return stacks


def _layer_charts(lengths: Sequence[int], rows: Sequence[Sequence[LayerFacts | None]]) -> list[str]:
    """For each length the FLOPs of each layer, and its memory."""
    charts = []
    for i, n in enumerate(lengths):
        layers = [[None if one is None else one.costs[i] for one in row] for row in rows]
        work = [[None if one is None else (one.flops, one.pair_flops) for one in row] for row in layers]
        memory = [[None if one is None else (one.activations, 0) for one in row] for row in layers]
        charts.append(bar_chart(f"FLOPs of each layer, {plural(n, 'token')}", work, flops_text))
        charts.append(bar_chart(f"Memory of each layer, {plural(n, 'token')}", memory, size_text))
    return charts
