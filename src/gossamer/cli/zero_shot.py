"""gossamer zero-shot: labels of one's own for texts, by a model of entailment."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from gossamer.cli.classify import label_cells
from gossamer.cli.options import AsJson, BatchedReading, Out, Source, check_count, grouped
from gossamer.cli.task_runs import Page, TaskRun, check_out
from gossamer.cli.texts import TakesFiles

__all__ = ["COMMAND", "zero_shot"]

COMMAND = TakesFiles
PAGE = Page(columns=("label", "score"), cells=label_cells)


@grouped
def zero_shot(
    source: Source,
    *,
    label: Annotated[list[str], Option("--label", "-l", metavar="LABEL", help="A label; give several times.")],
    template: Annotated[
        str, Option(metavar="TEXT", help="What the model is asked to infer, with {} for the label.")
    ] = "This example is {}.",
    multi_label: Annotated[bool, Option("--multi-label", help="Several labels may hold: each has its own score.")] = (
        False
    ),
    top_k: Annotated[int | None, Option(metavar="N", help="Labels for each text; all.")] = None,
    reading: BatchedReading,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Label texts of any length with labels of your own, by a model that was trained on entailment (MNLI)."""
    check_count("--top-k", top_k)
    check_out(out, source.inputs())
    texts = source.stream()
    labeller = reading.task("zero-shot", source.model)
    options = {"labels": label, "template": template, "multi_label": multi_label, "top_k": top_k}
    TaskRun(task=labeller, page=PAGE, out=out, as_json=as_json).run(texts, options | reading.arguments(labeller.model))
