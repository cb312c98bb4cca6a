"""Gradient caching: one loss of all vectors of a step, with the memory of one micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.training.micro_batches import autocast, draw
from gossamer.training.objectives import Batch, VectorObjective
from gossamer.training.processes import Processes

__all__ = ["learn_in_parts"]


def learn_in_parts(
    objective: VectorObjective, model: nn.Module, parts: Sequence[Batch], place: tuple[int, int], processes: Processes,
    scaler: torch.amp.GradScaler, precision: str,
) -> tuple[float, int]:  # fmt: skip
    """Add the gradients of the step's loss, over the rows of all processes; the loss and the number of rows.

    The vectors of every part are computed without a graph and gathered, the loss of all of them and its gradients by
    them; then each part is read again, with the same dropout, and passes those gradients on. place: seed and step.
    Source: Gao et al. 2021, section 3.2; the representations of other processes as in section 3.4, with gradients.
    """
    passes = [inputs for part in parts for inputs in objective.passes(part)]
    columns, rank = len(passes) // len(parts), processes.rank
    read = [_Pass(inputs=one, seed=draw(*place, i, rank)) for i, one in enumerate(passes)]
    with torch.no_grad():
        vectors = [one.vectors(objective, model, processes.device, precision) for one in read]
        whole = [processes.rows_of_all(torch.cat(vectors[i::columns])) for i in range(columns)]
        named = [objective.targets(part) for part in parts]
        targets = {name: processes.rows_of_all(torch.cat([one[name] for one in named])) for name in named[0]}
    for one in whole:
        one.requires_grad_()
    loss = objective.vectors_loss(whole, targets)
    loss.backward()
    # What a loss leaves alone has no gradient; all processes read it none the less.
    by_vector = [torch.zeros_like(one) if one.grad is None else one.grad for one in whole]
    own = [one.tensor_split(processes.count)[rank] for one in by_vector]
    gradients = [one.split([len(row) for row in vectors[i::columns]]) for i, one in enumerate(own)]
    for i, each in enumerate(read):
        with processes.accumulating(model, last=i + 1 == len(read)):
            again = each.vectors(objective, model, processes.device, precision)
            share = (again * gradients[i % columns][i // columns]).sum() * processes.gradient_share
            scaler.scale(share).backward()
    return float(loss.detach()), len(whole[0])


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """What the model reads at once, and the seed of its dropout."""

    inputs: Batch
    seed: int

    def vectors(self, objective: VectorObjective, model: nn.Module, device: torch.device, precision: str) -> Tensor:
        torch.manual_seed(self.seed)
        with autocast(device, precision):
            return objective.vectors(model, self.inputs)
