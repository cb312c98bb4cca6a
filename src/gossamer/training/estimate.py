"""What a training will take before it begins: the most memory at once, and the time of a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gossamer.checkpoints import load
from gossamer.checkpoints.hub import find_checkpoint
from gossamer.errors import InputError
from gossamer.models.architecture import Architecture
from gossamer.models.encoder import Model
from gossamer.models.head_settings import CausalLM, MaskedLM
from gossamer.text import Tokenizer, byte_tokenizer
from gossamer.training.config import TrainingConfig
from gossamer.training.config_models import with_recompute
from gossamer.training.estimate_memory import Memory, peak_memory
from gossamer.training.estimate_saved import Pass
from gossamer.training.estimate_time import step_seconds
from gossamer.training.optimizers import OptimizerSettings

__all__ = ["Estimate", "estimate", "estimate_step"]

_AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HEADS = {"causal-lm": CausalLM, "masked-lm": MaskedLM}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one step of one process takes. `memory` is its fullest moment, `seconds` the time by kind of operation.

    Memory counts what training adds to Python and torch themselves (some 390 MB). It is held within 20% of the measured
    peak by a test; time is measured on samples and is rough, within a quarter where the machine has nothing else to do.
    """

    architecture: Architecture
    rows: int
    length: int
    accumulation: int
    device: str
    parameters: int
    memory: Memory
    seconds: dict[str, float]

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
        return {**{name: getattr(self, name) for name in names}, "parts": self.parts}


def estimate(
    config: TrainingConfig | dict[str, Any] | str | Path, *, model: Model | None = None, processes: int = 1
) -> Estimate:
    """What a run of this config would take of memory and time a step on this machine, on one process of so many.

    Only a checkpoint's own files are read, no data; a moment of calibration measures the machine. Raises InputError for
    a config that training would refuse, and for rows that cannot be shared evenly.
    """
    given = TrainingConfig.read(config)
    architecture = with_recompute(_architecture(given, model), given.recompute)
    count = processes * given.batch.accumulation
    if type(processes) is not int or processes < 1 or given.batch.rows % count:
        raise InputError(
            f"batch.rows is {given.batch.rows}; with {processes} processes and accumulation {given.batch.accumulation} "
            f"it must be a multiple of {count}"
        )
    length = given.batch.length or architecture.length
    if length > architecture.length:
        raise InputError(f"batch.length is {length}; the model reads {architecture.length} tokens: take at most those")
    step = Pass(
        rows=given.batch.rows // count, length=length, autocast=_AUTOCAST[given.precision], device=_device(given.device)
    )
    names = _trained(architecture, given.train_only)
    return estimate_step(architecture, step, given.optimizer, accumulation=given.batch.accumulation, trainable=names)


def estimate_step(
    architecture: Architecture,
    step: Pass,
    optimizer: OptimizerSettings,
    *,
    accumulation: int = 1,
    trainable: Collection[str] | None = None,
    timed: bool = True,
) -> Estimate:
    """The same for a description, without a config. `trainable`: names of the trained parameters, None for all."""
    memory = peak_memory(architecture, step, optimizer, accumulation=accumulation, trainable=trainable)
    return Estimate(
        architecture=architecture,
        rows=step.rows,
        length=step.length,
        accumulation=accumulation,
        device=step.device,
        parameters=memory.weights // step.weights.itemsize,
        memory=memory,
        seconds=step_seconds(architecture, step, optimizer, accumulation=accumulation) if timed else {},
    )


def _architecture(config: TrainingConfig, model: Model | None) -> Architecture:
    if model is not None:
        return model.architecture
    if config.model is None:
        raise InputError("model is missing; name a checkpoint or describe a decoder")
    if config.model.checkpoint is not None:
        head = _HEADS[config.objective.kind]() if config.model.new_head else config.objective.kind
        return load(config.model.checkpoint, head=head, dtype="float32").architecture
    return config.model.describe(config.model.vocabulary_size or _vocabulary_size(config))


def _vocabulary_size(config: TrainingConfig) -> int:
    named = config.data.tokenizer
    if named is None or named == "bytes":
        return byte_tokenizer(mask=config.objective.kind == "masked-lm").vocabulary_size
    return Tokenizer.load(find_checkpoint(named)).vocabulary_size


def _trained(architecture: Architecture, beginnings: tuple[str, ...]) -> set[str] | None:
    """The names that begin with one of these, at a dot or as a whole."""
    if not beginnings:
        return None
    with torch.device("meta"):
        names = [name for name, _ in Model(architecture).named_parameters()]
    return {name for name in names if any(f"{name}.".startswith(f"{one}.") for one in beginnings)}


def _device(named: str | None) -> str:
    if named is not None:
        return torch.device(named).type
    return "cuda" if torch.cuda.is_available() else "cpu"
