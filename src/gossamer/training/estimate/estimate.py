"""What a training will take before it begins: the most memory at once, and the time of a step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from gossamer.checkpoints.hub import find_checkpoint
from gossamer.checkpoints.load import load_without_memory
from gossamer.checkpoints.new_heads import usual_head
from gossamer.errors import InputError
from gossamer.models.architecture import Architecture
from gossamer.models.dropout import with_dropout
from gossamer.models.model import Model
from gossamer.text import Tokenizer
from gossamer.text.encoding import count_ids, fingerprint
from gossamer.training.config import TrainingConfig
from gossamer.training.config.models import with_recompute
from gossamer.training.estimate.memory import Memory, peak_memory
from gossamer.training.estimate.saved import Pass
from gossamer.training.estimate.step_time import step_seconds
from gossamer.training.material import check_model, check_prompt, check_split, check_words, trained_names
from gossamer.training.objectives import LabelObjective, Objective
from gossamer.training.optimization.adapters import adapted, adapted_maps, learning_names
from gossamer.training.optimization.optimizers import OptimizerSettings
from gossamer.training.processes import Processes
from gossamer.training.pruning.pruner import masked, pruned_units

__all__ = ["Estimate", "estimate", "estimate_step", "rows_of_budget"]

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one step of one process takes. `memory` is its fullest moment, `seconds` the time by kind of operation.

    Memory counts what training adds to Python and torch themselves (some 390 MB). It is held within 20% of the measured
    peak by a test; time is measured on samples and is rough, within a quarter where the machine has nothing else to do.
    is_upper_bound: whether rows may be shorter than `length`, as texts with labels are, and take less.
    """

    architecture: Architecture
    rows: int
    length: int
    accumulation: int
    device: str
    parameters: int
    memory: Memory
    seconds: dict[str, float]
    is_upper_bound: bool = False

    @property
    def peak_bytes(self) -> int:
        """The most memory at once, in bytes."""
        return self.memory.peak

    @property
    def step_seconds(self) -> float:
        """Seconds of one step; 0 where no time was measured."""
        return sum(self.seconds.values())

    @property
    def tokens(self) -> int:
        """Tokens that a step of this process reads."""
        return self.rows * self.length * self.accumulation

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """Bytes and seconds, by what takes them."""
        return {"memory": dataclasses.asdict(self.memory), "seconds": dict(self.seconds)}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the architecture."""
        names = ("rows", "length", "accumulation", "device", "parameters", "tokens", "peak_bytes", "step_seconds")
        return {name: getattr(self, name) for name in (*names, "is_upper_bound", "parts")}


def estimate(
    config: TrainingConfig | dict[str, Any] | str | Path, *, model: Model | None = None, processes: int = 1
) -> Estimate:
    """What a run of this config would take of memory and time a step on this machine, on one process of so many.

    Of a checkpoint all but its tensors are read, and no data, so rows with labels are taken to be as long as they may
    be, and a new head's labels must be named; a moment of calibration measures the machine. Raises InputError for
    settings, model, tokenizer, device and processes that training would refuse before it reads its data.
    """
    given = TrainingConfig.read(config)
    splits = given.parallel == "sequence" and processes != 1
    readers = 1 if splits else processes  # of split sequences all read all rows
    count = readers * given.batch.accumulation
    if type(processes) is not int or processes < 1 or (given.batch.tokens is None and given.batch.rows % count):
        raise InputError(
            f"batch.rows is {given.batch.rows}; with {processes} processes and accumulation {given.batch.accumulation} "
            f"it must be a multiple of {count}"
        )
    _check_objective(given.objective)
    device = Processes(given.parallel, given.device).device.type
    sharded = processes > 1 and given.parallel == "fsdp2"
    architecture, names = _checked(given, model, sharded=sharded, split_over=processes if splits else 1)
    rows, length = _sizes(given, architecture, readers)
    has_labels = isinstance(given.objective, LabelObjective)
    step = Pass(
        rows=rows, length=length, autocast=_AUTOCAST[given.precision], device=device, padded=has_labels,
        processes=processes if splits else 1,
    )  # fmt: skip
    estimated = estimate_step(
        architecture, step, given.optimizer, accumulation=given.batch.accumulation, trainable=names,
        averaged=given.average is not None,
    )  # fmt: skip
    return dataclasses.replace(estimated, is_upper_bound=has_labels)


def estimate_step(
    architecture: Architecture,
    step: Pass,
    optimizer: OptimizerSettings,
    *,
    accumulation: int = 1,
    trainable: Collection[str] | None = None,
    timed: bool = True,
    averaged: bool = False,
) -> Estimate:
    """The same for a description, without a config. `trainable`: names of the trained parameters, None for all.

    averaged: a running average of the trained weights is kept.
    """
    memory = peak_memory(
        architecture, step, optimizer, accumulation=accumulation, trainable=trainable, averaged=averaged
    )
    return Estimate(
        architecture=architecture,
        rows=step.rows,
        length=step.share,
        accumulation=accumulation,
        device=step.device,
        parameters=memory.weights // step.weights.itemsize,
        memory=memory,
        seconds=step_seconds(architecture, step, optimizer, accumulation=accumulation) if timed else {},
    )


def _check_objective(objective: Objective) -> None:
    if not objective.is_reckoned:
        reckoned = ", ".join(repr(kind) for kind, one in sorted(Objective.kinds.items()) if one.is_reckoned)
        raise InputError(
            f"objective.kind is {objective.kind!r}; training is reckoned for {reckoned}: what others hold beside the "
            "model, such as a second one, is not known"
        )


def _sizes(config: TrainingConfig, architecture: Architecture, processes: int) -> tuple[int, int]:
    """The rows of one micro-batch of one process, and their length; of rows with labels as many tokens as they may be.

    A budget of tokens is `rows` of any length up to the longest, and a part of them has up to one row more than others.
    """
    batch, parts = config.batch, processes * config.batch.accumulation
    length = batch.length or architecture.length
    if not isinstance(config.objective, LabelObjective):
        if config.data.pack:
            batch.check_parts(processes, length)
        return max(1, batch.rows_of(length) // parts), length
    if batch.tokens is None:
        return batch.rows // parts, length
    length = min(length, batch.tokens)
    return rows_of_budget(batch.tokens, length, parts), length


def rows_of_budget(tokens: int, length: int, parts: int) -> int:
    """So many rows of `length` as have the tokens of any part of a batch of shorter ones, cut into `parts`."""
    return math.ceil((tokens + (parts - 1) * length) / (parts * length))


def _checked(
    config: TrainingConfig, model: Model | None, *, sharded: bool, split_over: int
) -> tuple[Architecture, set[str] | None]:
    """Of the model that training would begin with, after its checks: the architecture, and what `train_only` names.

    Fresh weights are on the meta device, never drawn.
    """
    found = model if model is not None else _checkpoint(config)
    tokenizer = _tokenizer(config, found)
    if found is None:
        assert config.model is not None
        with torch.device("meta"):
            found = Model(config.model.describe(count_ids(tokenizer)))
    check_model(config, found, sharded)
    if split_over > 1:
        check_split(config, found, split_over)
    architecture = found.architecture
    check_words(found, tokenizer)
    check_prompt(config, found, tokenizer)
    if found.tokenizer is not None and fingerprint(found.tokenizer) != fingerprint(tokenizer):
        raise InputError(
            "data.tokenizer is not the model's own: leave it out, or give the model that one before (model.tokenizer)"
        )
    config.objective.check_tokenizer(tokenizer)
    if isinstance(config.objective, LabelObjective):
        assert found.architecture.head is not None
        head = config.objective.settle_head(found.architecture.head, ())
        architecture = dataclasses.replace(architecture, head=head)
    names = trained_names(found, config.train_only) if config.train_only else None
    if config.adapters is not None:
        architecture = adapted(architecture, adapted_maps(found, config.adapters), config.adapters)
        with torch.device("meta"):
            names = learning_names(Model(architecture), config.adapters)
    if config.pruning is not None:
        architecture = masked(architecture, pruned_units(found, config.pruning), config.pruning)
        with torch.device("meta"):
            names = trained_names(Model(architecture), config.train_only) if config.train_only else None
    return with_dropout(with_recompute(architecture, config.recompute), config.dropout), names


def _checkpoint(config: TrainingConfig) -> Model | None:
    if config.model is None or not config.model.is_described:
        raise InputError("model is missing; name a checkpoint or describe a decoder")
    name, objective = config.source, config.objective
    if name is None:
        return None
    if config.model.student is not None:
        return config.model.student.make(name)  # which of the teacher's it has, the weights tell
    head = objective.new_head(usual=usual_head(name, objective.heads[0])) if config.model.new_head else None
    return load_without_memory(name, head)


def _tokenizer(config: TrainingConfig, model: Model | None) -> Tokenizer:
    named = config.data.tokenizer
    if named is None and model is not None:
        if model.tokenizer is None:
            raise InputError("data.tokenizer is missing and the model has none; name 'bytes', or a model directory")
        return cast(Tokenizer, model.tokenizer)
    if named is None or named == "bytes":
        return config.objective.own_tokenizer()
    return Tokenizer.load(find_checkpoint(named))
