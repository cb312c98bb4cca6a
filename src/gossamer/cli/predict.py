"""gossamer predict: rows in, the same rows with what a model says of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from gossamer.cli.columns import Columns, read_columns
from gossamer.cli.options import AsJson, BatchedReading, ModelName, grouped
from gossamer.cli.output import check_target, note
from gossamer.cli.task_runs import Page, TaskRun
from gossamer.cli.texts import Text, carried, first_readable, stdin_stream
from gossamer.errors import InputError, quote

__all__ = ["predict"]

Said = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How rows are read for a head: the task, what it is asked about a row, what is said of its result, options."""

    task: str
    item: Callable[[_Columns, Text], Any]
    said: Callable[[_Columns, Text, Any], Said]
    options: Mapping[str, Any] = field(default_factory=dict)
    is_batched: bool = True


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """A file's columns by our names, and what is known of all of its rows from the first one and the model."""

    names: Mapping[str, str]
    has_words: bool
    problem_type: str | None

    def text(self, row: Text, ours: str) -> str:
        """The text of a column; InputError where it has none."""
        name = self.names.get(ours, ours)
        value = row.fields.get(name)
        if not isinstance(value, str):
            raise InputError(f"{row.source}: the field {name!r} is {quote(value)}; it must be a text (--column)")
        return value

    def words(self, row: Text) -> list[str]:
        """The words of a row; InputError where it has none."""
        found = _words_of(row, self.names)
        if found is None:
            name = self.names.get("tokens", "tokens")
            value = quote(row.fields.get(name))
            raise InputError(
                f"{row.source}: the field {name!r} is {value}; it must be a list of words, as in the first row"
            )
        return found


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
    tokens, or the entities of a text; the answer to its question, "" where there is none; or the text that is written
    about it.
    """
    check_target(out, [".jsonl"], file)
    first, rows = first_readable(_read(file))
    if first is None:
        bad = next(rows, None)
        said = f"{', '.join(map(str, file))}: there are no rows; name files that have some"
        raise InputError(said if bad is None else str(bad.problem))
    from gossamer.recipes.columns import called_columns

    names = called_columns(first.source, dict(first.fields), read_columns(column))
    loaded = reading.loading.load(model)
    head = loaded.architecture.head
    kind = None if head is None else _KINDS.get(head.kind)
    if kind is None:
        has = None if head is None else head.kind
        raise InputError(
            f"the model's head is {has!r}, which predicts nothing of rows; load one of {', '.join(_KINDS)}"
        )
    columns = _Columns(
        names=names, has_words=_words_of(first, names) is not None, problem_type=getattr(head, "problem_type", None)
    )
    from gossamer.tasks import task

    options = {**kind.options, **_options(kind, columns, reading.arguments(loaded))}
    predictor: Any = task(kind.task, loaded)
    TaskRun(
        task=predictor, page=Page(), out=out, as_json=as_json,
        item=lambda row: kind.item(columns, row),
        rows=lambda row, result: [_with_fields(row, kind.said(columns, row, result))],
    ).run(rows, options)  # fmt: skip


def _read(files: Sequence[Path]) -> Iterator[Text]:
    """The rows of files, all of their fields; one that is none has a problem."""
    from gossamer.text import read_documents

    inputs = [stdin_stream() if file == Path("-") else file for file in files]
    for document in read_documents(inputs, field=None, remark=note, lenient=True):
        try:
            "".join(document.parts)
            problem = None
        except InputError as refused:
            problem = str(refused)
        yield Text(document.name, "", fields=document.fields, problem=problem)


def _options(kind: _Kind, columns: _Columns, reading: dict[str, Any]) -> dict[str, Any]:
    if not kind.is_batched:
        return {name: reading[name] for name in ("long", "max_length")}
    words = {"aggregation": "none", "ignore_labels": ()} if kind.task == "tag" and columns.has_words else {}
    return {**reading, **words}


def _with_fields(row: Text, said: Said) -> dict[str, Any]:
    return carried(row.fields, said) | said


def _words_of(row: Text, names: Mapping[str, str]) -> list[str] | None:
    from gossamer.training.objectives.labelled.labels import from_cell

    words = from_cell(row.fields.get(names.get("tokens", "tokens")))
    is_list = isinstance(words, list) and bool(words) and all(isinstance(one, str) and one.strip() for one in words)
    return words if is_list else None


def _class_item(columns: _Columns, row: Text) -> Any:
    text = columns.text(row, "text")
    return {"text": text, "text_pair": columns.text(row, "text_pair")} if "text_pair" in columns.names else text


def _classes(columns: _Columns, row: Text, found: Any) -> Said:
    labels = found.labels[0]
    prediction: Any = labels[0].label
    if columns.problem_type == "multi_label_classification":
        prediction = [one.label for one in labels if one.score > 0.5]
    elif columns.problem_type == "regression":
        prediction = labels[0].score if len(labels) == 1 else {one.label: one.score for one in labels}
    return {"prediction": prediction, "scores": {one.label: one.score for one in labels}}


def _tag_item(columns: _Columns, row: Text) -> str:
    return " ".join(columns.words(row)) if columns.has_words else columns.text(row, "text")


def _tags(columns: _Columns, row: Text, found: Any) -> Said:
    """A tag for each of a row's tokens, by its first piece; the entities of a row that has a text."""
    if columns.has_words:
        return _tags_of(columns.words(row), found.entities[0])
    kept = ("label", "score", "start", "end", "text")
    return {"prediction": [{name: getattr(one, name) for name in kept} for one in found.entities[0]]}


def _tags_of(words: Sequence[str], pieces: Sequence[Any]) -> Said:
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


def _answer_item(columns: _Columns, row: Text) -> dict[str, str]:
    return {name: columns.text(row, name) for name in ("question", "context")}


def _answers(columns: _Columns, row: Text, found: Any) -> Said:
    best = found.answers[0][0]
    return {"prediction": best.text, "score": best.score, "start": best.start, "end": best.end}


def _text_item(columns: _Columns, row: Text) -> str:
    return columns.text(row, "text")


_KINDS = {
    "sequence-classification": _Kind(task="classify", item=_class_item, said=_classes),
    "token-classification": _Kind(task="tag", item=_tag_item, said=_tags),
    "question-answering": _Kind(task="answer", item=_answer_item, said=_answers, options={"impossible": True}),
    "seq2seq-lm": _Kind(
        task="rewrite", item=_text_item, said=lambda columns, row, found: {"prediction": found.texts[0]},
        is_batched=False,
    ),
}  # fmt: skip
