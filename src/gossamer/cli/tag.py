"""gossamer tag: names, parts of speech or other labels in texts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from typer import Option

from gossamer.cli.options import AsJson, BatchedReading, Source, grouped
from gossamer.cli.task_pages import report, score, telling
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
    reading: BatchedReading,
    as_json: AsJson = False,
) -> None:
    """Names, parts of speech or other labels in texts of any length, with the characters they stand at."""
    texts = source.read()
    tagger = reading.task("tag", source.model)
    with telling(texts) as told:
        tagged = tagger(
            [text.text for text in texts], aggregation.value, progress=told, **reading.arguments(tagger.model)
        )
    rows = [
        [[entity.text, entity.label, score(entity.score), f"{entity.start}–{entity.end}"] for entity in entities]
        for entities in tagged.entities
    ]
    report(texts, tagged, ("text", "label", "score", "characters"), rows, as_json)
