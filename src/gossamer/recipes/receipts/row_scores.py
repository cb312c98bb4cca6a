"""A score of each held-out row by itself, so that two models are compared row by row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from gossamer.models.model import Model
from gossamer.training.config import TrainingConfig
from gossamer.training.data.labelled import LabelledBatches, LabelledRows
from gossamer.training.evaluation import evaluate
from gossamer.training.objectives import LabelObjective
from gossamer.training.processes import Processes

__all__ = ["held_out_scores"]


def held_out_scores(
    rows: LabelledRows, models: Mapping[str, Model], config: TrainingConfig
) -> dict[str, dict[str, list[float]]]:
    """One score that is a mean over rows, by its name and then the model's: its value for each held-out row, in order.

    models: of one head, the run's. Nothing where no labelled rows are held out, or where a row alone defines no score.
    """
    objective = rows.objective
    if not rows.held_out or not isinstance(objective, LabelObjective):
        return {}
    name = _score_of_rows(objective, next(iter(models.values())), config.evaluation.metric)
    values = {label: _values(rows, model, config, name) for label, model in models.items()}
    defined = {label: [one for one in each if one is not None] for label, each in values.items()}
    if any(len(each) != len(rows.held_out) for each in defined.values()):
        return {}
    return {f"{name.replace('_', ' ')}, mean of {len(rows.held_out):,} held-out rows": defined}


def _score_of_rows(objective: LabelObjective, model: Model, metric: str | None) -> str:
    """A score that is a mean over rows: the run's metric, if that is one, or the objective's first."""
    known = list(objective.directions(model))
    return metric if metric in known and metric in ("accuracy", "exact_match", "answer_f1") else known[0]


def _values(rows: LabelledRows, model: Model, config: TrainingConfig, name: str) -> list[float | None]:
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
