"""gossamer classify: labels of texts, or of pairs of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

from typer import Option

from gossamer.cli.options import AsJson, BatchedReading, Out, Source, check_count, grouped
from gossamer.cli.output import note
from gossamer.cli.task_pages import score
from gossamer.cli.task_runs import Page, TaskRun, check_out
from gossamer.cli.texts import TakesFiles, Text, field_of, first_readable, not_one_bad, refuse_file_name
from gossamer.errors import InputError

__all__ = ["COMMAND", "classify", "label_cells"]

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
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Label texts, or pairs of texts, of any length: every label's score, the highest first."""
    check_count("--top-k", top_k)
    check_out(out, source.inputs())
    texts, item = _paired(source.stream(), pair, pair_field, source.files.as_text)
    classifier = reading.task("classify", source.model)
    function = None if function_to_apply is None else function_to_apply.value
    options = {"top_k": top_k, "function_to_apply": function} | reading.arguments(classifier.model)
    TaskRun(task=classifier, page=PAGE, out=out, as_json=as_json, item=item).run(texts, options)


def label_cells(classified: Any) -> list[list[str]]:
    """The labels of the one text."""
    return [[label.label, score(label.score)] for label in classified.labels[0]]


PAGE = Page(columns=("label", "score"), cells=label_cells)


def _paired(
    texts: Iterator[Text], pair: str | None, pair_field: str | None, as_text: bool
) -> tuple[Iterator[Text], Callable[[Text], Any]]:
    """The texts, and each with its second one: one for all, or each from another field of the text's own row."""
    if pair is not None and pair_field is not None:
        raise InputError(f"--pair {pair!r} and --pair-field {pair_field!r} were both given; give one of them")
    if pair is not None:
        refuse_file_name("--pair", pair, as_text)
        return texts, lambda text: {"text": text.text, PAIR_FIELD: pair}
    first, texts = first_readable(texts)
    if pair_field is None and first is not None and PAIR_FIELD in first.fields:
        note(f"the rows have a field {PAIR_FIELD!r}, which is read with each text; --pair-field names another")
        pair_field = PAIR_FIELD
    if pair_field is None:
        return texts, lambda text: text.text
    second = pair_field
    return not_one_bad(_with_second(text, second) for text in texts), lambda text: {
        "text": text.text,
        PAIR_FIELD: text.fields[second],
    }


def _with_second(text: Text, name: str) -> Text:
    """The text, with a problem where its row has no second text."""
    if text.problem is not None:
        return text
    try:
        field_of(text, name, "--pair-field")
    except InputError as problem:
        return replace(text, problem=str(problem))
    return text
