"""The page of a summary, alone or beside another: one file of HTML that needs no other, and runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import torch

from gossamer.errors import InputError, clean_line, plural
from gossamer.inspection.cost import Cost, cost
from gossamer.inspection.page import flops_text, size_text
from gossamer.inspection.summary import Summary
from gossamer.inspection.summary_page.changes import changes
from gossamer.inspection.summary_page.charts import Line, line_chart
from gossamer.inspection.summary_page.model_facts import model_facts, parts_of
from gossamer.inspection.summary_page.pictures import pattern_pictures
from gossamer.inspection.summary_page.stacks import stacks_of
from gossamer.inspection.summary_page.tree_rows import tree_row
from gossamer.inspection.summary_page.wording import change, number_change, ratio
from gossamer.inspection.tree import architecture_tree

__all__ = ["summary_page"]


def summary_page(first: Summary, other: Summary | None = None) -> str:
    """The page. Raises InputError where two summaries tell costs at different lengths.

    Whatever names, labels and texts hold is shown as text; the page's policy lets no script run, and loads nothing.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    shown = [first] if other is None else [first, other]
    lengths = [[one.length for one in summary.costs] for summary in shown]
    if lengths[0] != lengths[-1]:
        raise InputError(f"costs are told at the lengths {lengths[0]} and {lengths[1]}; sum up both at the same ones")
    known = [cost(one.architecture, 1, dtype=getattr(torch, one.dtype)) for one in shown]
    sets = [{part.name: part.parameters for part in one.parts} for one in known]
    stacks = stacks_of(shown, sets)
    told = None if other is None else changes(first, other, {one.title: one.pairs for one in stacks})
    pictures = pattern_pictures([one.architecture for one in shown])
    assets = files("gossamer.inspection.summary_page").joinpath("assets")
    read = {name: assets.joinpath(name).read_text(encoding="utf-8") for name in ("page.html.j2", "page.css")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(
        size=size_text, flops=flops_text, ratio=ratio, markup=Markup, plural=plural, clean=clean_line
    )
    return environment.from_string(read["page.html.j2"]).render(
        style=Markup(read["page.css"]), title=" beside ".join(clean_line(one.title, 200) for one in shown),
        summaries=shown, letters="AB"[: len(shown)], changes=told,
        facts=_rows([model_facts(one) for one in shown], "none"),
        parts=_rows([parts_of(one) for one in known], 0), lengths=lengths[0], charts=_charts(shown),
        stacks=stacks, pictures=pictures, picture_of={one.pattern: one for one in pictures},
        tree=tree_row(_trees(shown, known)),
    ).strip() + "\n"  # fmt: skip


def _trees(shown: Sequence[Summary], known: Sequence[Cost]) -> list[Any]:
    if len(shown) == 1:
        return [shown[0].root]
    ours = [one.architecture for one in shown]
    pairs = zip(ours, known, reversed(ours), strict=True)
    return [architecture_tree(mine, cost_of, beside) for mine, cost_of, beside in pairs]


def _rows(told: Sequence[Mapping[str, int | str]], missing: int | str) -> list[tuple[str, list[str], str]]:
    """Name, what it is in each model, and how that changed."""
    names = dict.fromkeys(name for one in told for name in one)
    rows = []
    for name in names:
        values = [one.get(name, missing) for one in told]
        said = [f"{value:,}" if isinstance(value, int) else value for value in values]
        rows.append((name, said, _change(values) if len(values) == 2 else ""))
    return rows


def _change(values: Sequence[int | str]) -> str:
    first, other = values
    if isinstance(first, int) and isinstance(other, int):
        return number_change(first, other)
    return change(str(first), str(other))


def _charts(shown: Sequence[Summary]) -> list[str]:
    """FLOPs and memory over the lengths."""
    if not shown[0].costs:
        return []
    lengths = [one.length for one in shown[0].costs]
    looks = list(zip("AB" if len(shown) == 2 else " ", "ab", shown, strict=False))
    full = [
        Line(
            label=f"{letter} full".strip(),
            look=f"{look} full",
            values=tuple(cost.flops for cost in one.full_costs),
        )
        for letter, look, one in looks
        if one.full_costs
    ]
    work = [Line(label=a, look=b, values=tuple(cost.flops for cost in one.costs)) for a, b, one in looks]
    memory = [Line(label=a, look=b, values=tuple(cost.peak for cost in one.costs)) for a, b, one in looks]
    return [
        line_chart("FLOPs of one text, by its length", lengths, [*full, *work], flops_text),
        line_chart("Memory of one text with the weights, by its length", lengths, memory, size_text),
    ]
