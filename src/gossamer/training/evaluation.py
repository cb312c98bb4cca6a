"""How well a model in training does on what is held out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.models.model import Model
from gossamer.training.micro_batches import autocast, cut
from gossamer.training.objectives import IGNORED, Objective, VectorObjective
from gossamer.training.processes import Processes

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The mean loss over the held-out labels, of tokens and classes in nats, and the objective's own scores."""

    loss: float
    scores: dict[str, float | None] = field(default_factory=dict)

    def numbers(self) -> dict[str, float | None]:
        """For a journal."""
        return {"loss": self.loss, **self.scores}


@torch.no_grad()
def evaluate(
    objective: Objective, model: Model, wrapped: nn.Module, batches: Iterable[dict[str, Any]],
    processes: Processes, precision: str, accumulation: int = 1,
) -> Evaluation:  # fmt: skip
    """Read the held-out batches once, this process's share of them; the same numbers in every process.

    accumulation: in how many parts a batch is read whose rows are compared with each other, for it is larger than what
    is read at once in training.
    """
    was_training = model.training
    wrapped.eval()
    if isinstance(objective, VectorObjective):
        try:
            return _evaluate_vectors(objective, wrapped, batches, processes, precision, accumulation)
        finally:
            wrapped.train(was_training)
    losses, weights, labels, sums = [], [], 0, dict.fromkeys(objective.measures, 0.0)
    series: dict[str, list[Any]] = {name: [] for name in objective.series}
    try:
        for whole in batches:
            batch = {name: one.to(processes.device) for name, one in whole.items() if isinstance(one, Tensor)}
            weight = objective.weigh(model, batch)
            with autocast(processes.device, precision):
                loss, measured = objective.measure_examples(wrapped, batch, whole.get("examples", ()))
            losses.append(float(loss) * weight if weight else 0.0)
            weights.append(weight)
            labels += objective.count_labels(model, batch)
            for name in sums:
                sums[name] += measured[name] if name in measured else float(whole[name])
            for name, values in series.items():
                values += measured[name]
    finally:
        wrapped.train(was_training)
    summed, total, count, *measures = processes.total(math.fsum(losses), math.fsum(weights), labels, *sums.values())
    mean = summed / total if total else math.nan
    told = dict(zip(sums, measures, strict=True)) | {name: processes.gathered(one) for name, one in series.items()}
    return Evaluation(loss=mean, scores=objective.scores(model, mean, int(count), told))


def _vectors(objective: VectorObjective, wrapped: nn.Module, batch: dict[str, Tensor], precision: str) -> list[Tensor]:
    with autocast(batch["labels"].device, precision):
        return [objective.vectors(wrapped, inputs).cpu() for inputs in objective.passes(batch)]


def _evaluate_vectors(
    objective: VectorObjective, wrapped: nn.Module, batches: Iterable[dict[str, Any]], processes: Processes,
    precision: str, accumulation: int,
) -> Evaluation:  # fmt: skip
    """The mean loss over batches by their rows, as in training among the rows of a batch; scores among all of them."""
    losses, vectors, targets = [], [], []
    for read_batch in batches:
        whole = {name: value for name, value in read_batch.items() if isinstance(value, Tensor)}
        parts, real = cut(whole, accumulation)
        read = [
            _vectors(objective, wrapped, {name: one.to(processes.device) for name, one in part.items()}, precision)
            for part, is_real in zip(parts, real, strict=True)
            if is_real or processes.count > 1
        ]
        mine = [torch.cat(column)[: len(whole["labels"])] for column in zip(*read, strict=True)]
        told = {**objective.targets(whole), "labels": whole["labels"]}
        shares = processes.gathered([(mine, told)])
        there = torch.cat([one["labels"] for _, one in shares]) != IGNORED
        rows = [torch.cat(column)[there] for column in zip(*(one for one, _ in shares), strict=True)]
        of_rows = {name: torch.cat([one[name] for _, one in shares])[there] for name in told}
        losses.append(float(objective.vectors_loss(rows, of_rows)) * len(rows[0]))
        vectors.append(rows)
        targets.append(of_rows)
    everything = [torch.cat(column) for column in zip(*vectors, strict=True)]
    of_all = {name: torch.cat([one[name] for one in targets]) for name in targets[0]}
    loss = math.fsum(losses) / len(everything[0])
    return Evaluation(loss=loss, scores=objective.vectors_scores(everything, of_all))
