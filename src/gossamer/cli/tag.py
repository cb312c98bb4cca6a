"""gossamer tag: names, parts of speech or other labels in texts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from typer import Option

from gossamer.cli.options import AsJson, BatchedReading, Out, Source, grouped
from gossamer.cli.task_pages import score
from gossamer.cli.task_runs import Page, TaskRun, check_out
from gossamer.cli.texts import TakesFiles

__all__ = ["COMMAND", "tag"]

COMMAND = TakesFiles


class Join(StrEnum):
    """How tokens become entities."""

    none = "none"
    simple = "simple"
    first = "first"
    average = "average"
    max = "max"


@grouped
def tag(
    source: Source,
    *,
    aggregation: Annotated[
        Join, Option(metavar="HOW", help="Tokens to entities: none, simple; by words: first, average, max.")
    ] = Join.simple,
    constrained: Annotated[
        bool, Option("--constrained", help="Of labels in a row that make whole entities, the likeliest (Viterbi).")
    ] = False,
    reading: BatchedReading,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Names, parts of speech or other labels in texts of any length, with the characters they stand at."""
    check_out(out, source.inputs())
    texts = source.stream()
    tagger = reading.task("tag", source.model)
    options = {"aggregation": aggregation.value, "constrained": constrained} | reading.arguments(tagger.model)
    TaskRun(task=tagger, page=PAGE, out=out, as_json=as_json).run(texts, options)


def _cells(tagged: Any) -> list[list[str]]:
    return [
        [entity.text, entity.label, score(entity.score), f"{entity.start}–{entity.end}"]
        for entity in tagged.entities[0]
    ]


PAGE = Page(columns=("text", "label", "score", "characters"), cells=_cells)
