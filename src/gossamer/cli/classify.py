"""gossamer classify: labels of texts, or of pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from typer import Option

from gossamer.cli.options import AsJson, BatchedReading, Source, check_count, grouped
from gossamer.cli.output import note
from gossamer.cli.task_pages import report, score, telling
from gossamer.cli.texts import TakesFiles, Text, refuse_file_name
from gossamer.errors import InputError, quote

__all__ = ["COMMAND", "classify"]

COMMAND = TakesFiles
PAIR_FIELD = "text_pair"
"""As the pipelines call the second text."""


class ScoreFunction(StrEnum):
    """What makes scores of the model's numbers."""

    softmax = "softmax"
    sigmoid = "sigmoid"
    none = "none"


@grouped
def classify(
    source: Source,
    *,
    pair: Annotated[str | None, Option(metavar="TEXT", help="A second text, read with each of the texts.")] = None,
    pair_field: Annotated[
        str | None, Option(metavar="NAME", help="The field that holds each text's second text in its row.")
    ] = None,
    top_k: Annotated[int | None, Option(metavar="N", help="Labels for each text; all.")] = None,
    function_to_apply: Annotated[
        ScoreFunction | None,
        Option(metavar="NAME", help="Scores: softmax, sigmoid or none (the model's own numbers); what fits the model."),
    ] = None,
    reading: BatchedReading,
    as_json: AsJson = False,
) -> None:
    """Label texts, or pairs of texts, of any length: every label's score, the highest first."""
    check_count("--top-k", top_k)
    texts = source.read()
    pairs = _pairs(texts, pair, pair_field, source.files.as_text)
    classifier = reading.task("classify", source.model)
    with telling(texts) as told:
        classified = classifier(
            [text.text for text in texts],
            pairs,
            top_k=top_k,
            function_to_apply=None if function_to_apply is None else function_to_apply.value,
            progress=told,
            **reading.arguments(classifier.model),
        )
    rows = [[[label.label, score(label.score)] for label in labels] for labels in classified.labels]
    report(texts, classified, ("label", "score"), rows, as_json)


def _pairs(texts: Sequence[Text], pair: str | None, pair_field: str | None, as_text: bool) -> list[str] | None:
    """Each text's second text: one for all of them, or each from another field of the text's own row."""
    if pair is not None and pair_field is not None:
        raise InputError(f"--pair {pair!r} and --pair-field {pair_field!r} were both given; give one of them")
    if pair is not None:
        refuse_file_name("--pair", pair, as_text)
        return [pair] * len(texts)
    if pair_field is None and texts and all(PAIR_FIELD in text.fields for text in texts):
        note(f"the rows have a field {PAIR_FIELD!r}, which is read with each text; --pair-field names another")
        pair_field = PAIR_FIELD
    return None if pair_field is None else [_other_text(text, pair_field) for text in texts]


def _other_text(text: Text, name: str) -> str:
    value = text.fields.get(name)
    if not isinstance(value, str):
        others = ", ".join(text.fields)[:80] or "none but its text"
        problem = f"is {quote(value)}" if name in text.fields else f"is missing (it has: {others})"
        raise InputError(f"{text.source}: the field {name!r} {problem}; name one of its row with --pair-field")
    return value
