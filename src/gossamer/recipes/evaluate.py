"""How well a model's head does on rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from gossamer.checks import is_whole, require, require_whole
from gossamer.errors import InputError
from gossamer.metrics.generated import check_generated
from gossamer.models.heads import Head, Seq2SeqLM
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.recipes.columns import LabelledColumns, find_columns, is_trained
from gossamer.recipes.finetune import NOTHING, Data, first_row, read_data
from gossamer.text import Document, Tokenizer, tokenize
from gossamer.training.config.reading import read_settings
from gossamer.training.data.labelled import LabelledBatches
from gossamer.training.data.token_batches import Batches
from gossamer.training.evaluation import evaluate as measure
from gossamer.training.objectives import LanguageObjective, Objective, RowObjective
from gossamer.training.processes import Processes

__all__ = ["Scores", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The loss and the head's scores over so many rows, of which `cut` are longer than the model read.

    What these rows do not define is None.
    """

    rows: int
    cut: int
    loss: float
    scores: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"rows": self.rows, "cut": self.cut, "loss": self.loss, "scores": dict(self.scores)}


@dataclass(frozen=True, kw_only=True)
class _Read:
    """So many rows, of which some were cut, as batches."""

    rows: int
    cut: int
    batches: Iterator[dict[str, Any]]


def evaluate(
    model: Model, data: Data, *, columns: Mapping[str, str] = NOTHING, batch: int = 16, length: int | None = None,
    metrics: Sequence[str] = (),
) -> Scores:  # fmt: skip
    """The scores of a model's head on rows, as `gossamer.finetune` tells them of held-out ones.

    data, columns: as there. batch: rows read at once. length: tokens of a row, as many as the model reads unless given.
    Texts with labels and pairs are cut there (`Scores.cut` counts them), as in training, while the tasks read them
    whole in passes; contexts of questions and the texts of a language model are read to their ends, in windows.
    metrics: of a model of two texts, "rouge", "bleu" or "chrf": it writes a text to each row as `gossamer.generate`
    does, which is scored against the row's.

    Raises InputError for a batch or length that will not do, rows that lack what the head needs, labels that the model
    does not have, and no rows.
    """
    head, tokenizer = check_model(model).architecture.head, model.tokenizer
    require_whole("batch", batch, of="rows")
    most = model.architecture.length
    allowed = f"a whole number of tokens from 1 to {most}, all that the model can read at once, or None"
    require(length is None or is_whole(length, 1, most), "length", length, allowed)
    if head is None or tokenizer is None or not is_trained(head):
        raise InputError(
            "the model needs a tokenizer and a head for labels, answers, vectors, tokens or second texts; train one "
            "(gossamer finetune)"
        )
    sources, changes = read_data(data, None, "data")
    found = find_columns(*first_row(changes, sources), None, head, columns, own_only=True)
    settings = found.objective if not metrics else {**found.objective, "metrics": list(_checked(metrics, head))}
    objective = read_settings(cast(Any, Objective), settings, "objective")
    tokens = model.reading_length() if length is None else length
    named = changes["data.train"]
    inputs = (named,) if isinstance(named, str) else named
    if isinstance(objective, RowObjective):
        documents = sources.documents(inputs, field=None)
        read = _rows(objective, documents, found, tokenizer, head, tokens, batch)
    else:
        documents = sources.documents(inputs, field=found.text)
        read = _texts(cast(LanguageObjective, objective), documents, tokenizer, tokens, batch)
    processes = Processes.alone(next(model.parameters()).device)
    told = measure(objective, model, model, read.batches, processes, "float32")
    can_tell = objective.directions(model)  # bits per byte are nothing that a masked language model has
    scores = {name: value for name, value in told.scores.items() if value is not None or name in can_tell}
    return Scores(rows=read.rows, cut=read.cut, loss=told.loss, scores=scores)


def _checked(metrics: Sequence[str], head: Head) -> tuple[str, ...]:
    """The names of metrics of texts that are written; InputError for others, and for a head that writes none."""
    require(isinstance(head, Seq2SeqLM), "metrics", metrics, f"left out: the head {head.kind!r} writes no second text")
    return check_generated(metrics)


def _rows(
    objective: RowObjective, documents: Iterator[Document], found: LabelledColumns, tokenizer: Tokenizer, head: Head,
    length: int, batch: int,
) -> _Read:  # fmt: skip
    rows = [objective.read_row(one, found.text) for one in documents]
    settled = objective.settle_head(head, rows)
    examples = objective.encode(rows, tokenizer, length, settled, control_tokens=True)
    batches = LabelledBatches(
        examples=examples, held_out=examples, pad_id=tokenizer.pad_id or 0, collate=objective.collate,
        batch=min(batch, len(examples)),
    )  # fmt: skip
    return _Read(rows=len(rows), cut=sum(one.cut for one in examples), batches=batches.evaluation())


def _texts(
    objective: LanguageObjective, documents: Iterator[Document], tokenizer: Tokenizer, length: int, batch: int
) -> _Read:
    """Packed, as in training; texts that do not fill a row are one row."""
    file = tokenize(documents, tokenizer, name="the model's")
    count = int(file.ends[-1]) + 2 * file.documents  # with what stands around each of them
    batches = Batches(
        file=file, held_out_file=file, tokenizer=tokenizer, objective=objective, length=min(length, count),
        batch=max(1, min(batch, count // length)),
    )  # fmt: skip
    return _Read(rows=file.documents, cut=0, batches=batches.evaluation())
