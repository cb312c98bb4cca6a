"""The receipt of a fine-tuning whose model was measured: before and after side by side, the score with an interval."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gossamer.metrics import estimate_mean
from gossamer.models.model import Model
from gossamer.recipes.receipts.comparison import Comparison, Making, compare
from gossamer.recipes.receipts.measure import on_cpu
from gossamer.recipes.receipts.receipt import describe
from gossamer.training.config import TrainingConfig
from gossamer.training.data.labelled import LabelledBatches, LabelledRows
from gossamer.training.evaluation import evaluate
from gossamer.training.objectives import LabelObjective
from gossamer.training.processes import Processes
from gossamer.training.receipt import TrainingReceipt

__all__ = ["TunedReceipt", "measured_receipt"]


@dataclass(frozen=True, kw_only=True)
class TunedReceipt(TrainingReceipt):
    """What the run did, and what the model was and is (`gossamer.recipes.receipts.receipt.describe`), compared."""

    before: dict[str, Any]
    after: dict[str, Any]
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"recipe": "finetune"}

    def __str__(self) -> str:
        return f"{super().__str__()}\n\n{self.comparison}"

    def to_markdown(self) -> str:
        return f"{super().to_markdown()}\n\n{self.comparison}"

    def _tables(self) -> list[Any]:
        return [*super()._tables(), self.comparison.table()]

    def _plots(self) -> list[str]:
        return self.comparison.plots()


def measured_receipt(
    receipt: TrainingReceipt, before: Model, after: Model, config: TrainingConfig, rows: LabelledRows | None,
    fits: bool, settings: Mapping[str, Any],
) -> TunedReceipt:  # fmt: skip
    """The receipt with both models measured on the CPU, by the settings of `gossamer.compare`.

    rows: of the run; of those that are held out the score of each is taken with both models, or with the trained one
    alone where the head of the other does not fit them.
    """
    models = {"before": on_cpu(before), "after": on_cpu(after)}
    judged = dict(models) if fits else {"after": models["after"]}
    scores: dict[str, dict[str, list[float]]] = {}
    lines: tuple[str, ...] = ()
    if rows is not None and rows.held_out and isinstance(rows.objective, LabelObjective):
        name = _score_of_rows(rows.objective, models["after"], config.evaluation.metric)
        found = {one: _values(rows, model, config, name) for one, model in judged.items()}
        if all(None not in values for values in found.values()):
            told = f"{name.replace('_', ' ')}, mean of {len(rows.held_out):,} held-out rows"
            scores[told] = found  # type: ignore[assignment]
            mean = estimate_mean(torch.tensor(found["after"], dtype=torch.float64))
            lines = (f"{told}: {mean} (standard error)",)
    made = {"after": Making.of_training(receipt, after, config.batch.length)}
    comparison = compare(models, scores=scores, made=made, **settings)
    fields = {field.name: getattr(receipt, field.name) for field in dataclasses.fields(TrainingReceipt)}
    notes = {"notes": (*receipt.notes, *lines)}
    return TunedReceipt(**fields | notes, before=describe(before), after=describe(after), comparison=comparison)


def _score_of_rows(objective: LabelObjective, model: Model, metric: str | None) -> str:
    """A score that is a mean over rows: the run's metric, if that is one, or the objective's first."""
    known = list(objective.directions(model))
    return metric if metric in known and metric in ("accuracy", "exact_match", "answer_f1") else known[0]


def _values(rows: LabelledRows, model: Model, config: TrainingConfig, name: str) -> Sequence[float | None]:
    """The score of each held-out row by itself."""
    objective, head, tokenizer = rows.objective, model.architecture.head, model.tokenizer
    assert head is not None
    assert tokenizer is not None
    if getattr(objective, "class_weights", None) is not None:  # which are of the loss alone
        objective = dataclasses.replace(objective, class_weights=None)  # type: ignore[call-arg]
    head = objective.settle_head(head, rows.all)
    length, processes = config.batch.length or model.reading_length(), Processes.alone(torch.device("cpu"))
    values = []
    for row in rows.held_out:
        examples = objective.encode([row], tokenizer, length, head, control_tokens=config.data.control_tokens)
        batches = LabelledBatches(
            examples=examples, held_out=examples, pad_id=tokenizer.pad_id or 0, collate=objective.collate,
            batch=len(examples),
        )  # fmt: skip
        told = evaluate(objective, model, model, batches.evaluation(), processes, "float32")
        values.append(told.scores[name])
    return values
