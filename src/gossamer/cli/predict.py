"""gossamer predict: rows in, the same rows with what a model says of them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.text import Text
from typer import Argument, Option

from gossamer.cli.columns import Columns, read_columns
from gossamer.cli.options import AsJson, BatchedReading, ModelName, grouped
from gossamer.cli.output import check_target, json_line, print_json, show
from gossamer.cli.task_pages import named, remark, telling
from gossamer.cli.texts import carried
from gossamer.errors import InputError, plural, quote

if TYPE_CHECKING:
    from gossamer.tasks.base import Task

__all__ = ["predict"]

_TASKS = {"sequence-classification": "classify", "token-classification": "tag", "question-answering": "answer"}


@dataclass(frozen=True)
class _Row:
    """A row of a file, and its columns by our names."""

    source: str
    fields: Mapping[str, Any]
    columns: Mapping[str, str]

    def text(self, ours: str) -> str:
        """The text of a column; InputError where it has none."""
        name = self.columns.get(ours, ours)
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise InputError(f"{self.source}: the field {name!r} is {quote(value)}; it must be a text (--column)")
        return value

    def words(self) -> list[str] | None:
        """Its words, where it has a list of them."""
        from gossamer.training.objectives.labelled.labels import from_cell

        words = from_cell(self.fields.get(self.columns.get("tokens", "tokens")))
        is_list = isinstance(words, list) and bool(words) and all(isinstance(one, str) and one.strip() for one in words)
        return words if is_list else None


@grouped
def predict(
    model: ModelName,
    file: Annotated[list[Path], Argument(metavar="FILE ...", help="Rows: jsonl, json, csv, tsv, parquet.")],
    *,
    out: Annotated[Path, Option(metavar="FILE.jsonl", help="Where the rows are written.")],
    column: Columns = None,
    reading: BatchedReading,
    as_json: AsJson = False,
) -> None:
    """Label the rows of files: their fields are kept, `prediction` and its scores stand beside them.

    By the model's head: the label of a text (or of a pair), all labels above a half, a number; a tag for each of its
    tokens, or the entities of a text; or the answer to its question, "" where there is none.
    """
    check_target(out, [".jsonl"], file)
    rows = _read(file, read_columns(column))
    loaded = reading.loading.load(model)
    kind = None if loaded.architecture.head is None else loaded.architecture.head.kind
    if kind not in _TASKS:
        heads = ", ".join(_TASKS)
        raise InputError(f"the model's head is {kind!r}, which predicts nothing of rows; load one of {heads}")
    from gossamer.atomic_files import write_texts
    from gossamer.tasks import task

    predicted, notes = _SAYING[kind](task(_TASKS[kind], loaded), rows, reading.arguments(loaded))
    remark(named(notes, dict(enumerate(rows))))
    written = [json_line(carried(row.fields, one) | one) for row, one in zip(rows, predicted, strict=True)]
    write_texts({out: "\n".join(written) + "\n"})
    if as_json:
        print_json({"out": str(out), "rows": len(rows)})
    else:
        show(Text(f"{plural(len(rows), 'row')} written to {out}", no_wrap=True, overflow="ignore"))


def _read(files: Sequence[Path], named_columns: Mapping[str, str]) -> list[_Row]:
    from gossamer.recipes.columns import called_columns
    from gossamer.text import read_documents

    documents = list(read_documents(list(files), field=None))
    if not documents:
        raise InputError(f"{', '.join(map(str, files))}: there are no rows; name files that have some")
    columns = called_columns(documents[0].name, documents[0].fields, named_columns)
    return [_Row(one.name, one.fields, columns) for one in documents]


def _classes(classify: Task, rows: Sequence[_Row], options: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    pairs = [row.text("text_pair") for row in rows] if "text_pair" in rows[0].columns else None
    with telling(dict(enumerate(rows))) as told:
        found = classify([row.text("text") for row in rows], pairs, progress=told, **options)  # type: ignore[operator]
    problem = classify.model.architecture.head.problem_type  # type: ignore[union-attr]
    said = []
    for labels in found.labels:
        prediction: Any = labels[0].label
        if problem == "multi_label_classification":
            prediction = [one.label for one in labels if one.score > 0.5]
        elif problem == "regression":
            prediction = labels[0].score if len(labels) == 1 else {one.label: one.score for one in labels}
        said.append({"prediction": prediction, "scores": {one.label: one.score for one in labels}})
    return said, found.notes


def _tags(tag: Task, rows: Sequence[_Row], options: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """A tag for each of a row's tokens, by its first piece; the entities of a row that has a text."""
    words = [row.words() for row in rows]
    if all(words):
        texts, more = [" ".join(one or ()) for one in words], {"aggregation": "none", "ignore_labels": ()}
    else:
        texts, more = [row.text("text") for row in rows], {}
    with telling(dict(enumerate(rows))) as told:
        found = tag(texts, progress=told, **more, **options)  # type: ignore[operator]
    if not all(words):
        kept = ("label", "score", "start", "end", "text")
        return [{"prediction": [{name: getattr(one, name) for name in kept} for one in of_text]}
                for of_text in found.entities], found.notes  # fmt: skip
    return [_tags_of(one or [], pieces) for one, pieces in zip(words, found.entities, strict=True)], found.notes


def _tags_of(words: Sequence[str], pieces: Sequence[Any]) -> dict[str, Any]:
    """Of words that no piece begins in, such as signs that the tokenizer drops, the tag is None."""
    ends = list(accumulate(len(word) + 1 for word in words))
    first: dict[int, Any] = {}
    for piece in pieces:
        first.setdefault(next(i for i, end in enumerate(ends) if piece.start < end), piece)
    said = [first.get(i) for i in range(len(words))]
    return {
        "prediction": [None if one is None else one.label for one in said],
        "scores": [None if one is None else one.score for one in said],
    }


def _answers(answer: Task, rows: Sequence[_Row], options: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    questions, contexts = ([row.text(name) for row in rows] for name in ("question", "context"))
    with telling(dict(enumerate(rows))) as told:
        found = answer(questions, contexts, impossible=True, progress=told, **options)  # type: ignore[operator]
    best = [answers[0] for answers in found.answers]
    said = [{"prediction": one.text, "score": one.score, "start": one.start, "end": one.end} for one in best]
    return said, found.notes


_SAYING = {"sequence-classification": _classes, "token-classification": _tags, "question-answering": _answers}
