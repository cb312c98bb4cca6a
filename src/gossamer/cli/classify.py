"""gossamer classify: labels of texts, or of pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Option

from gossamer.cli.output import working
from gossamer.cli.task_pages import (
    AsJson,
    Dtype,
    Field,
    Files,
    HowLong,
    Long,
    MaxLength,
    ModelName,
    Texts,
    check_top_k,
    reading,
    report,
    score,
)
from gossamer.cli.texts import TakesFiles, read_texts
from gossamer.errors import InputError

__all__ = ["COMMAND", "classify"]

COMMAND = TakesFiles


class ScoreFunction(StrEnum):
    """What makes scores of the model's numbers."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    none = "none"


def classify(
    model: ModelName,
    texts: Texts = None,
    file: Files = None,
    field: Field = "text",
    pair: Annotated[str | None, Option(metavar="TEXT", help="A second text, read with each of the texts.")] = None,
    pair_field: Annotated[
        str | None, Option(metavar="NAME", help="The field that holds each text's second text in a .jsonl file.")
    ] = None,
    top_k: Annotated[int | None, Option(metavar="N", help="Labels for each text; all.")] = None,
    function_to_apply: Annotated[
        ScoreFunction | None,
        Option(metavar="NAME", help="Scores: softmax, sigmoid or none (the model's own numbers); what fits the model."),
    ] = None,
    long: HowLong = Long.chunk,
    max_length: MaxLength = None,
    dtype: Dtype = None,
    as_json: AsJson = False,
) -> None:
    """Label texts, or pairs of texts, of any length: every label's score, the highest first."""
    check_top_k(top_k)
    read = read_texts(texts or [], file or [], field)
    pairs = None if pair is None else [pair] * len(read)
    if pair_field is not None:
        pairs = _pairs(texts or [], file or [], pair_field, pair)
    with working("reading the model"):
        from gossamer.checkpoints import load
        from gossamer.tasks import task

        label = task("classify", load(model, dtype=dtype))
    with reading(read) as told:
        found = label(
            [one.text for one in read],
            pairs,
            top_k=top_k,
            function_to_apply=None if function_to_apply is None else function_to_apply.value,
            long=long.value,
            max_length=max_length,
            progress=told,
        )
    rows = [[[one.label, score(one.score)] for one in labels] for labels in found.labels]
    report(read, found, ("label", "score"), rows, as_json)


def _pairs(arguments: Sequence[str], files: Sequence[Path], pair_field: str, pair: str | None) -> list[str]:
    """Each text's second text, from the same line."""
    other = next((str(one) for one in files if one.suffix != ".jsonl"), "TEXT" if arguments else None)
    if pair is not None:
        raise InputError(f"--pair {pair!r} and --pair-field {pair_field!r} were both given; give one of them")
    if other is not None or not files:
        raise InputError(f"--pair-field is {pair_field!r}, and {other} has no fields; give .jsonl files alone")
    return [one.text for one in read_texts([], files, pair_field, "--pair-field")]
