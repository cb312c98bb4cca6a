"""One step of training: micro-batches forward and backward, gradients clipped and checked, weights updated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from gossamer.models.model import Model
from gossamer.training.gradient_cache import learn_in_parts
from gossamer.training.micro_batches import autocast, cut, draw
from gossamer.training.objectives import Objective, VectorObjective
from gossamer.training.processes import Processes

__all__ = ["Stepper", "Update"]


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one step gave: the mean loss over all its labels, and the gradients' norm before clipping."""

    loss: float
    norm: float
    labels: int

    @property
    def finite(self) -> bool:
        """Whether loss and gradients were numbers; where they were not the weights are as before."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Constraint(Protocol):
    """What a step is held to beside its loss: something that follows a schedule, and a penalty of the weights alone."""

    def before_step(self, step: int) -> None:
        """Called before each step, counted from 0, in every process."""

    def add_gradients(self, step: int) -> None:
        """Add those of the penalty to the gradients of the whole step."""


class Stepper:
    """Updates a model's weights, one batch a call.

    Each label counts the same, or as the objective weighs it, however the batch is cut: a micro-batch's mean loss is
    weighed by its share of the labels of all micro-batches and processes; an objective of vectors has one loss for all
    of them. torch's generators are seeded anew for each micro-batch, so that dropout depends on (seed, step,
    micro-batch, process) and nothing before.
    """

    def __init__(
        self, objective: Objective, model: Model, wrapped: nn.Module, optimizer: torch.optim.Optimizer,
        processes: Processes, *, accumulation: int, clipping: float | None, precision: str, seed: int,
        frozen_rows: Mapping[str, int], constraint: Constraint | None = None,
    ) -> None:  # fmt: skip
        self.objective, self.model, self.wrapped = objective, model, wrapped
        self.optimizer, self.processes = optimizer, processes
        self.accumulation, self.clipping, self.precision, self.seed = accumulation, clipping, precision, seed
        self.constraint = constraint
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=precision == "float16")
        parameters = dict(model.named_parameters())
        self._trained = [one for one in parameters.values() if one.requires_grad]
        self._frozen = [
            (parameters[name], parameters[name].detach()[:rows].clone()) for name, rows in frozen_rows.items()
        ]

    def update(self, step: int, batch: Mapping[str, Tensor], rate: float) -> Update:
        """Learn from one batch, this process's rows of it, with this learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_share"]
        self.objective.before_step(self.model, step)
        if self.constraint is not None:
            self.constraint.before_step(step)
        loss, labels = self._gradients(step, batch)
        self.scaler.unscale_(self.optimizer)
        if self.constraint is not None:
            self.constraint.add_gradients(step)
        for parameter, rows in self._frozen:
            if parameter.grad is not None:
                parameter.grad[: len(rows)] = 0
        norm = self.processes.clip(self._trained, self.clipping)
        done = Update(loss=loss, norm=norm, labels=labels)
        if done.finite or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # which leaves the weights alone where scaled gradients overflowed
            self.scaler.update()
        self._keep_frozen_rows()
        self.optimizer.zero_grad(set_to_none=True)
        return done

    def _gradients(self, step: int, batch: Mapping[str, Tensor]) -> tuple[float, int]:
        """Add up the gradients of all micro-batches; the mean loss and the number of labels, over all processes."""
        parts, real = cut(batch, self.accumulation)
        objective, model = self.objective, self.model
        if isinstance(objective, VectorObjective) and (len(parts) > 1 or self.processes.count > 1):
            there = [self._on_device(part) for part, is_real in zip(parts, real, strict=True) if is_real]
            return learn_in_parts(
                objective, self.wrapped, there, (self.seed, step), self.processes, self.scaler, self.precision
            )
        count = sum(objective.count_labels(model, part) for part, is_real in zip(parts, real, strict=True) if is_real)
        weights = [objective.weigh(model, part) * is_real for part, is_real in zip(parts, real, strict=True)]
        total, labels = self.processes.total(math.fsum(weights), count)
        losses = []
        for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            torch.manual_seed(draw(self.seed, step, i, self.processes.rank))
            with self.processes.accumulating(self.wrapped, last=i + 1 == len(parts)):
                loss = self._loss(part, learns=weight > 0)
                share = weight / (total or 1) * self.processes.gradient_share
                self.scaler.scale(loss * share).backward()
            losses.append(float(loss.detach()) * weight if weight else 0.0)
        (summed,) = self.processes.total(math.fsum(losses))
        copies = self.processes.count // self.processes.reader[1]  # of split sequences each process counts all labels
        return summed / (total or 1), int(labels) // copies

    def _loss(self, part: dict[str, Tensor], learns: bool) -> Tensor:
        """The mean loss; where nothing is to be learnt that of any labels, for all processes go through all of it."""
        given = self._on_device(part)
        if not learns:
            given["labels"] = self.objective.any_labels(given)
        with autocast(self.processes.device, self.precision):
            return self.objective.loss(self.wrapped, given)

    def _on_device(self, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: one.to(self.processes.device, non_blocking=True) for name, one in part.items()}

    @torch.no_grad()
    def _keep_frozen_rows(self) -> None:
        """Weight decay moves even what has no gradient."""
        for parameter, rows in self._frozen:
            parameter[: len(rows)] = rows
