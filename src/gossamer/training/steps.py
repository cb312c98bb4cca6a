"""One step of training: micro-batches forward and backward, gradients clipped and checked, weights updated."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.models.model import Model
from gossamer.training.objectives import Objective
from gossamer.training.processes import Processes

__all__ = ["Stepper", "Update", "autocast", "draw"]

_PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


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


class Stepper:
    """Updates a model's weights, one batch a call.

    Each label counts the same, however the batch is cut: a micro-batch's mean loss is weighed by its share of the
    labels of all micro-batches and processes. torch's generators are seeded anew for each micro-batch, so that dropout
    depends on (seed, step, micro-batch, process) and nothing before.
    """

    def __init__(
        self, objective: Objective, model: Model, wrapped: nn.Module, optimizer: torch.optim.Optimizer,
        processes: Processes, *, accumulation: int, clipping: float | None, precision: str, seed: int,
        frozen_rows: Mapping[str, int],
    ) -> None:  # fmt: skip
        self.objective, self.model, self.wrapped = objective, model, wrapped
        self.optimizer, self.processes = optimizer, processes
        self.accumulation, self.clipping, self.precision, self.seed = accumulation, clipping, precision, seed
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
        loss, labels = self._gradients(step, batch)
        self.scaler.unscale_(self.optimizer)
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
        parts, real = _cut(batch, self.accumulation)
        counts = [
            self.objective.count_labels(self.model, one) * is_real for one, is_real in zip(parts, real, strict=True)
        ]
        (total,) = self.processes.total(sum(counts))
        losses = []
        for i, (part, count) in enumerate(zip(parts, counts, strict=True)):
            torch.manual_seed(draw(self.seed, step, i, self.processes.rank))
            with self.processes.accumulating(self.wrapped, last=i + 1 == len(parts)):
                loss = self._loss(part, learns=count > 0)
                share = count / max(total, 1) * self.processes.gradient_share
                self.scaler.scale(loss * share).backward()
            losses.append(float(loss.detach()) * count if count else 0.0)
        (summed,) = self.processes.total(math.fsum(losses))
        return summed / max(total, 1), int(total)

    def _loss(self, part: dict[str, Tensor], learns: bool) -> Tensor:
        """The mean loss; where nothing is to be learnt that of any labels, for all processes go through all of it."""
        given = {name: one.to(self.processes.device, non_blocking=True) for name, one in part.items()}
        if not learns:
            given["labels"] = self.objective.any_labels(given)
        with autocast(self.processes.device, self.precision):
            return self.objective.loss(self.wrapped, given)

    @torch.no_grad()
    def _keep_frozen_rows(self) -> None:
        """Weight decay moves even what has no gradient."""
        for parameter, rows in self._frozen:
            parameter[: len(rows)] = rows


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """What a forward pass runs under."""
    kind = _PRECISIONS.get(precision)
    return nullcontext() if kind is None else torch.autocast(device.type, dtype=kind)


def draw(*numbers: int) -> int:
    """A seed from numbers that tell one place from every other."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _cut(batch: Mapping[str, Tensor], parts: int) -> tuple[list[dict[str, Tensor]], list[bool]]:
    """The batch in so many parts of equally many rows, or one more; and which of them are.

    All processes pass as many parts, so where there are fewer rows the first one fills up.
    """
    pieces = {name: tensor.tensor_split(parts) for name, tensor in batch.items()}
    cut = [{name: several[i] for name, several in pieces.items()} for i in range(parts)]
    real = [len(one["labels"]) > 0 for one in cut]
    return [one if is_real else cut[0] for one, is_real in zip(cut, real, strict=True)], real
