"""What a model does with some rows, for scores that read it: gradients of the mean loss, norms of what maps read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.layers import Linear
from gossamer.models.evaluation import evaluating, reading_whole
from gossamer.models.model import Model
from gossamer.recipes.pruning.training import Lesson
from gossamer.training.config import TrainingConfig
from gossamer.training.config.training import BatchSettings
from gossamer.training.data.labelled import LabelledBatches
from gossamer.training.data.token_batches import Batches
from gossamer.training.material import gather
from gossamer.training.objectives import BatchSource, Objective, RowObjective
from gossamer.training.processes import Processes

__all__ = ["calibrate"]


def calibrate(
    model: Model, maps: Sequence[str], reads: str, lesson: Lesson, samples: int
) -> tuple[dict[str, Tensor], int]:
    """What these maps see in so many rows, by name: "gradients" [outputs, inputs], or "activations" [inputs].

    Beside it the rows that were read, each once: all of them where there are fewer. In float32 at least. model: is read
    in evaluation mode, and left as it is. Raises InputError for rows that its head does not learn from.
    """
    with TemporaryDirectory(prefix="gossamer-") as folder:
        config, rows = lesson.reading(folder)
        processes = Processes(config.parallel, config.device)
        # How many rows there are is known when they are read: of so few at once there are always enough.
        least = processes.count * (config.objective.least_rows if isinstance(config.objective, RowObjective) else 1)
        few = {} if config.batch.tokens is not None else {"batch.rows": least, "batch.accumulation": 1}
        material = gather(TrainingConfig.read(config, few), model, processes, lesson.sources, rows)
        batches = list(_first_rows(material.batches, samples, config.batch))
    linears = {name: model.get_submodule(name) for name in maps}
    try:
        with evaluating(model), torch.enable_grad():
            see = _gradients if reads == "gradients" else _activations
            seen = see(model, linears, config.objective, batches)
    finally:
        config.objective.detach(model)
    return seen, sum(len(batch["input_ids"]) for batch in batches)


def _first_rows(source: BatchSource, samples: int, size: BatchSettings) -> Iterator[dict[str, Tensor]]:
    """Batches of so many rows together, of one epoch at most. size: of a batch, where there are so many rows."""
    if isinstance(source, Batches | LabelledBatches):
        # The last batch of an epoch may have rows of the next one.
        there = int(source.rows_per_epoch) if isinstance(source, Batches) else len(source.examples)
        samples = min(samples, max(1, there))
        if size.tokens is None:
            source = replace(source, batch=max(1, min(size.rows, samples) // source.world) * source.world)
    for step in range(source.steps(1)):
        batch = source.at(step)
        rows = len(batch["input_ids"])
        yield batch if rows <= samples else {name: tensor[:samples] for name, tensor in batch.items()}
        samples -= rows
        if samples <= 0:
            return


def _gradients(
    model: Model, maps: Mapping[str, nn.Module], objective: Objective, batches: Sequence[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Of the mean loss over the labels of all batches."""
    weights = [one.weight for one in maps.values() if isinstance(one, Linear)]
    shares = [objective.weigh(model, batch) for batch in batches]
    total = [torch.zeros_like(one, dtype=_wide(one)) for one in weights]
    for batch, share in zip(batches, shares, strict=True):
        if share:
            loss = objective.loss(model, _there(model, batch)) * (share / sum(shares))
            for summed, one in zip(total, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                if one is not None:
                    summed += one
    return dict(zip(maps, total, strict=True))


def _activations(
    model: Model, maps: Mapping[str, nn.Module], objective: Objective, batches: Sequence[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The norms over all real tokens."""
    linears = {name: one for name, one in maps.items() if isinstance(one, Linear)}
    sums = {name: one.weight.new_zeros(one.in_features, dtype=_wide(one.weight)) for name, one in linears.items()}
    for batch in batches:
        with reading_whole(model), _watched(maps, sums, batch.get("attention_mask")), torch.no_grad():
            objective.loss(model, _there(model, batch))
    return {name: one.sqrt() for name, one in sums.items()}


@contextmanager
def _watched(maps: Mapping[str, nn.Module], sums: dict[str, Tensor], mask: Tensor | None) -> Iterator[None]:
    """Add the squares of what the maps read inside the block."""

    def watch(name: str) -> Any:
        def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach()
            fits = mask is not None and x.shape[:-1] == mask.shape  # not of gathered global tokens
            real = x[mask.bool().to(x.device)] if mask is not None and fits else x.flatten(0, -2)
            sums[name] += real.to(sums[name].dtype).square().sum(0)

        return add

    handles = [one.register_forward_pre_hook(watch(name)) for name, one in maps.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _there(model: Model, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    return {name: one.to(device) for name, one in batch.items()}
