"""Fine-tune a pretrained model on labelled rows: the head follows their columns."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from gossamer.atomic_files import write_texts
from gossamer.checkpoints import load
from gossamer.checkpoints.new_heads import own_head
from gossamer.checks import require
from gossamer.errors import InputError, quote
from gossamer.models.heads import Head
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.recipes.columns import LabelledColumns, check_head, find_columns
from gossamer.recipes.new_head import fits, with_new_head
from gossamer.recipes.receipts.measure import read_measure
from gossamer.recipes.receipts.tuned_receipt import TunedReceipt, measured_receipt
from gossamer.text import Document, read_documents
from gossamer.training.config import TrainingConfig
from gossamer.training.data.labelled import LabelledRows, read_rows
from gossamer.training.data.rows import DataSources, RowSequence, as_document, with_names
from gossamer.training.launched import is_first_process
from gossamer.training.loop import Resume, train_on
from gossamer.training.material import origin_of
from gossamer.training.objectives import LabelObjective
from gossamer.training.receipt import TrainingReceipt

__all__ = ["NOTHING", "Data", "finetune", "first_row", "output_folder", "read_data", "ready_model"]

Data = str | Path | Sequence[str | Path] | RowSequence
"""A file, several files, or rows in memory."""
_LONGEST_NAME = 255
"""Of a file, where there is hardly a system that has longer ones."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


def finetune(
    model: Model | str | Path, train: Data, evaluate: Data | float | None = None, *, epochs: float = 3,
    output: str | Path | None = None, head: str | None = None, labels: Sequence[str] | None = None,
    columns: Mapping[str, str] = NOTHING, learning_rate: float = 5e-5, batch: int = 16, length: int | None = None,
    metric: str | None = None, patience: int | None = None, seed: int = 0, measure: bool | Mapping[str, Any] = False,
    settings: Mapping[str, Any] = NOTHING, resume: Resume = "auto", remark: Callable[[str], None] = lambda text: None,
) -> tuple[Model, TrainingReceipt]:  # fmt: skip
    """Train a copy of a model on labelled rows; returns it, in evaluation mode, and the receipt of its training.

    model: a model, or what `gossamer.load` takes. train, evaluate: files (jsonl, json, csv, tsv, parquet), or a
    sequence of dicts, such as a list or a `datasets.Dataset`, whose names of labels are taken; evaluate may also be the
    share or the number of rows that are held out. It is read after each epoch.

    The head follows the first row's columns: a text and a "label" (a class; a list of them: several at once; another
    number: a regression) or "score" (a regression); "tokens" and "tags"; "question", "context" and "answers"; two texts
    such as "query" and "positive", which a sentence encoder's vectors learn from. The model's own head is taken where
    it has one for them, with the labels of the rows among its own; else one is drawn.
    head: its kind, where the columns leave a choice. labels: their names, in order; those of the rows unless given.
    columns: what these columns are called, {"text": "review"}.

    epochs, learning_rate (which rises over the first tenth of the steps and falls to 0), batch (rows of a step), length
    (tokens of a row, as many as the model reads unless given), seed: of the training. metric: a score of the head by
    which the best epoch is kept and returned; the last one is where none is named. patience: epochs without a better
    one after which the run ends. settings: other fields of a `TrainingConfig`, such as {"optimizer.layer_decay": 0.9}.
    output, resume: as in `gossamer.train`; without an output nothing is left on disk, and nothing goes on. measure:
    whether the model is measured before and after, in the receipt's `comparison`; settings of `gossamer.compare`, such
    as {"latency": False}, say how.

    Raises InputError, before anything is computed, for arguments of another kind, rows that lack a column, labels of
    several kinds, tags that are not as many as tokens, one class only, and no rows.
    """
    _check_kinds(head, labels, settings)
    measured = read_measure(measure)
    own = check_model(model).architecture.head if not isinstance(model, str | Path) else own_head(model)
    sources, changes = read_data(train, evaluate)
    found = find_columns(*first_row(changes, sources), head, own, columns)
    fields = {
        "data": {"field": found.text},
        "objective": found.objective | ({} if labels is None else {"labels": tuple(labels)}),
        "batch": {"rows": batch, "length": length},
        "optimizer": {"learning_rate": learning_rate},
        "schedule": {"name": "linear", "warmup": 0.1},
        "epochs": epochs,
        "seed": seed,
        "evaluation": {"every": None if evaluate is None else "epoch", "metric": metric, "patience": patience},
    }
    with output_folder(output) as folder:
        config = TrainingConfig.read({**fields, "output": folder}, {**changes, **settings})
        rows = read_rows(config, sources) if config.objective.columns else None
        ready, is_drawn = ready_model(model, own, config, rows, found, remark)
        trained, receipt = train_on(
            config, sources, model=ready, labelled=rows, origin=origin_of(ready, has_new_head=is_drawn), resume=resume,
            remark=remark,
        )  # fmt: skip
        best = _best(trained, receipt, Path(folder), config.evaluation.metric)
        if measured is not None and is_first_process():
            receipt = best.receipt = _measured(model, best, receipt, own, config, rows, measured)
        return best, receipt


def _check_kinds(head: object, labels: object, settings: object) -> None:
    check_head(head)
    are_fields = isinstance(settings, Mapping) and all(isinstance(name, str) for name in settings)
    allowed = "a mapping of fields of a TrainingConfig, such as {'steps': 100}"
    require(are_fields, "settings", settings, allowed)
    are_names = isinstance(labels, Iterable) and not isinstance(labels, str | Mapping)
    require(labels is None or are_names, "labels", labels, "a list of names, or None for those of the rows")


def ready_model(
    given: Model | str | Path, own: Head | None, config: TrainingConfig, rows: LabelledRows | None,
    found: LabelledColumns, remark: Callable[[str], None],
) -> tuple[Model, bool]:  # fmt: skip
    """A copy of the model with the head that the rows are for, and whether that is drawn. rows: None of plain texts."""
    remark = remark if is_first_process() else _say_nothing
    if rows is None:
        if not isinstance(own, config.objective.heads):
            raise InputError(f"the model has no head {found.head!r}, which rows with no more than a text would train")
        return _copy(given), False
    objective = rows.objective
    try:
        if fits(objective, own, rows.all):
            _say_one_label(rows, remark)
            return _copy(given), False
        objective.new_head(rows.train)  # which refuses rows that are all alike
    except InputError as problem:
        raise InputError(f"{rows.train[0].name}: {problem}") from None
    if isinstance(own, objective.heads):
        remark(f"the model's own head, {own.describe()}, is for other labels; a new one is drawn")
    return with_new_head(given, objective, rows.all, config.seed), True


def _say_nothing(text: str) -> None:
    """The remark of all processes but the first."""


def _say_one_label(rows: LabelledRows, remark: Callable[[str], None]) -> None:
    """A model that tells more labels apart may learn from rows of one; whoever has them may not know."""
    names = rows.objective.label_names(rows.train) if isinstance(rows.objective, LabelObjective) else ()
    if len(names) == 1:
        remark(f"{rows.train[0].name}: all rows to train on have the label {quote(names[0])}, of those of the model")


def _copy(given: Model | str | Path) -> Model:
    """A copy to be trained, which leaves the given model as it was."""
    return load(given, dtype="float32") if isinstance(given, str | Path) else copy.deepcopy(given).float()


def read_data(train: Data, evaluate: Data | float | None, name: str = "train") -> tuple[DataSources, dict[str, Any]]:
    """The rows in memory; and the settings that name rows and files, or tell how many rows are held out.

    name: what the first argument is called where it is refused.
    """
    is_empty = train is None or (isinstance(train, str) and not train)
    require(not is_empty, name, train, "a file, a list of files, or a sequence of dicts")
    is_held_out = type(evaluate) in (int, float)
    other: Any = None if is_held_out else evaluate
    files = {"data.train": _files(name, train), "evaluation.data": _files("evaluate", other)}
    rows, others = None if files["data.train"] else train, None if files["evaluation.data"] else other
    sources = DataSources(rows=with_names(name, rows), evaluation_rows=with_names("evaluate", others))
    held_out = {"evaluation.held_out": evaluate} if is_held_out else {}
    return sources, {path: names for path, names in files.items() if names} | sources.changes | held_out


def _files(name: str, data: Any) -> tuple[str, ...]:
    """The names of files; none where there are rows. InputError for what can be no name, as a text is none."""
    given = [data] if isinstance(data, str | Path) else data if isinstance(data, list | tuple) else []
    if not all(isinstance(one, str | Path) for one in given):
        return ()
    for one in map(str, given):
        if max(map(len, one.split(os.sep))) > _LONGEST_NAME:
            raise InputError(
                f"{name} has {quote(one)}, which is no name of a file; to learn from texts in memory give rows, such "
                "as {'text': ...}"
            )
    return tuple(map(str, given))


def first_row(settings: Mapping[str, Any], sources: DataSources) -> tuple[str, Mapping[str, Any]]:
    """Where the first row is from, and its columns."""
    if sources.rows is not None:
        first: Document | None = as_document("rows", 0, sources.rows[0], None)
    else:
        first = next(iter(read_documents(settings["data.train"], field=None)), None)
    if first is None:
        raise InputError(f"{', '.join(settings['data.train'])}: there are no rows; name files that have some")
    return first.name, first.fields


def output_folder(output: str | Path | None) -> AbstractContextManager[str]:
    """The folder that is named, or one for as long as it is needed; InputError where several processes need one."""
    if output is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("output is None, but several processes train together; name a folder that all of them see")
    require(isinstance(output, str | PathLike | None), "output", output, "a folder, or None")
    return TemporaryDirectory(prefix="gossamer-") if output is None else nullcontext(str(output))


def _measured(
    given: Model | str | Path, tuned: Model, receipt: TrainingReceipt, own: Head | None, config: TrainingConfig,
    rows: LabelledRows | None, measured: Mapping[str, Any],
) -> TunedReceipt:  # fmt: skip
    """The receipt with the models before and after, which takes the place of the run's in the output folder."""
    before = _copy(given)
    has_head = rows is not None and fits(rows.objective, own, rows.all)
    compared = measured_receipt(receipt, before, tuned, config, rows, has_head, measured)
    text = json.dumps(compared.to_dict(), indent=2, ensure_ascii=False) + "\n"
    write_texts({Path(config.output) / "receipt.json": text})
    return compared


def _best(trained: Model, receipt: TrainingReceipt, folder: Path, metric: str | None) -> Model:
    """The model of the best epoch, where one is wanted and it is not the last."""
    if metric is None or receipt.best is None or receipt.best["step"] == receipt.steps:
        return trained
    best = load(folder / "best").to(next(trained.parameters()).device)
    best.source, best.receipt = trained.source, receipt
    return best
