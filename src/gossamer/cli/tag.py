"""gossamer tag: names, parts of speech or other labels in texts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from typer import Option

from gossamer.cli.output import working
from gossamer.cli.task_pages import (
    AsJson,
    BatchSize,
    Device,
    Dtype,
    Field,
    Files,
    HowLong,
    Long,
    MaxLength,
    ModelName,
    Texts,
    batch_tokens,
    reading,
    report,
    score,
)
from gossamer.cli.texts import AsText, Format, TakesFiles, read_texts

__all__ = ["COMMAND", "tag"]

COMMAND = TakesFiles


class Join(StrEnum):
    """How tokens become entities."""

    none = "none"
    simple = "simple"
    first = "first"
    average = "average"
    max = "max"


def tag(
    model: ModelName,
    texts: Texts = None,
    file: Files = None,
    field: Field = "text",
    format: Format = None,
    as_text: AsText = False,
    aggregation: Annotated[
        Join, Option(metavar="HOW", help="Tokens to entities: none, simple; by words: first, average, max.")
    ] = Join.simple,
    long: HowLong = Long.chunk,
    max_length: MaxLength = None,
    dtype: Dtype = None,
    device: Device = None,
    batch_size: BatchSize = None,
    as_json: AsJson = False,
) -> None:
    """Names, parts of speech or other labels in texts of any length, with the characters they stand at."""
    read = list(read_texts(texts or [], file or [], field, format=format, as_text=as_text))
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.tasks import task

        label = task("tag", load(model, dtype=dtype, device=device))
    at_once = batch_tokens(batch_size, label.model, max_length)
    with reading(read) as told:
        found = label(
            [one.text for one in read],
            aggregation.value,
            long=long.value,
            batch_tokens=at_once,
            max_length=max_length,
            progress=told,
        )
    rows = [
        [[one.text, one.label, score(one.score), f"{one.start}–{one.end}"] for one in entities]
        for entities in found.entities
    ]
    report(read, found, ("text", "label", "score", "characters"), rows, as_json)
