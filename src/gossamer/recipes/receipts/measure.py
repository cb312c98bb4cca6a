"""What a model takes, measured: time in rounds in turn with other models, and what a data-parallel step sends."""

from __future__ import annotations

import copy
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer import __version__
from gossamer.checks import require, require_whole
from gossamer.inspection.processor import read_processor
from gossamer.models.evaluation import evaluating
from gossamer.models.model import Model
from gossamer.recipes.states import probe
from gossamer.training.loop import threads_of

__all__ = [
    "Latency",
    "check_settings",
    "exchanged_bytes",
    "gradient_bytes",
    "machine",
    "measure_latency",
    "on_cpu",
    "read_measure",
    "reads",
    "texts_of",
]

_FLAGS, _NUMBERS = ("latency", "memory"), ("batches", "tokens", "threads")
_AT_LEAST = 0.02  # seconds of one sample: a clock's grain and one interrupt are nothing beside it


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds of a pass over `batch` texts of `tokens` tokens on `threads` threads: the median of rounds, quartiles.

    `seconds` has a value for each model by its name, None where it does not read so many tokens.
    """

    batch: int
    tokens: int
    threads: int
    rounds: int
    seconds: Mapping[str, tuple[float, float, float] | None]  # lower quartile, median, upper quartile

    def median(self, name: str) -> float | None:
        """Of one model."""
        quartiles = self.seconds[name]
        return None if quartiles is None else quartiles[1]


def measure_latency(
    models: Mapping[str, Model],
    *,
    batches: Sequence[int] = (1, 8),
    tokens: Sequence[int] = (128, 512),
    threads: Sequence[int] = (1, 2),
    rounds: int = 5,
) -> list[Latency]:
    """Time a pass of every model under each setting, in rounds in which each takes its turn, every round another first.

    What disturbs the machine for a while so disturbs all models. A sample is as many passes as fill 20 ms, after one
    that does not count. Heads are included. Raises InputError for models on devices other than the CPU, and settings
    that are no whole numbers from 1.
    """
    check_settings(batches=batches, tokens=tokens, threads=threads)
    require_whole("rounds", rounds)
    check_devices(models)
    return [
        _time(models, batch=batch, tokens=length, threads=count, rounds=rounds)
        for count, batch, length in product(threads, batches, tokens)
    ]


def check_settings(**settings: Sequence[int]) -> None:
    """InputError for what is no list of whole numbers from 1, and for an empty one."""
    for name, numbers in settings.items():
        require(isinstance(numbers, Sequence) and bool(numbers), name, numbers, "one or more whole numbers in a list")
        for number in numbers:
            require_whole(name, number)


def read_measure(measure: bool | Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of `gossamer.compare` that a recipe is to measure by; None where it is not to.

    InputError for other settings than those, and for numbers that will not do, before anything is trained.
    """
    if isinstance(measure, bool):
        return {} if measure else None
    fits = isinstance(measure, Mapping) and set(measure) <= {*_FLAGS, *_NUMBERS, "rounds", "processes"}
    known = ", ".join((*_FLAGS, *_NUMBERS, "rounds", "processes"))
    require(fits, "measure", measure, f"true, false, or settings of gossamer.compare: {known}")
    check_settings(**{name: measure[name] for name in _NUMBERS if name in measure})
    for name in ("rounds", "processes"):
        require_whole(name, measure.get(name, 1))
    for name in _FLAGS:
        require(isinstance(measure.get(name, True), bool), f"measure.{name}", measure.get(name), "true or false")
    return dict(measure)


def on_cpu(model: Model) -> Model:
    """The model where time can be measured: a copy where it is elsewhere."""
    is_there = next(model.parameters()).device.type == "cpu"
    return model if is_there else copy.deepcopy(model).cpu()


def check_devices(models: Mapping[str, Model]) -> None:
    """InputError for a model whose time cannot be taken by a clock of the CPU."""
    for name, model in models.items():
        device = next(model.parameters()).device
        require(device.type == "cpu", f"the device of {name}", str(device), "the CPU: move it there to measure it")


def _time(models: Mapping[str, Model], *, batch: int, tokens: int, threads: int, rounds: int) -> Latency:
    inputs = {name: texts_of(model, batch, tokens) for name, model in models.items() if reads(model, tokens)}
    samples: dict[str, list[float]] = {name: [] for name in inputs}
    with threads_of(threads):
        for name in inputs:
            _sample(models[name], inputs[name], at_least=0)
        for number in range(rounds):
            names = list(inputs)
            first = number % max(len(names), 1)
            for name in names[first:] + names[:first]:
                samples[name].append(_sample(models[name], inputs[name]))
    seconds = {name: _quartiles(samples[name]) if name in samples else None for name in models}
    return Latency(batch=batch, tokens=tokens, threads=threads, rounds=rounds, seconds=seconds)


@torch.no_grad()
def _sample(model: Model, inputs: Tensor, at_least: float = _AT_LEAST) -> float:
    """Seconds a pass takes."""
    with evaluating(model):
        start, passes, elapsed = time.perf_counter(), 0, -1.0
        while elapsed < at_least:
            model(inputs)
            passes += 1
            elapsed = time.perf_counter() - start
    return elapsed / passes


def _quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    if len(seconds) == 1:
        return (seconds[0],) * 3
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, middle, high


def reads(model: Model, tokens: int) -> bool:
    """Whether the model reads so many tokens at once."""
    return tokens <= model.architecture.length


def texts_of(model: Model, batch: int, tokens: int) -> Int[Tensor, "batch *choices tokens"]:
    """The same text `batch` times, as long as asked for: a shipped speech, or random ids where there is none."""
    ids = probe(model, tokens)[0].expand(batch, -1).contiguous()
    head = model.architecture.head
    return ids[:, None] if head is not None and head.takes_choices else ids


def gradient_bytes(model: Model) -> int:
    """Bytes of the gradients of all parameters that learn."""
    return sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)


def exchanged_bytes(gradients: int, processes: int) -> int:
    """Bytes that each of `processes` processes sends (and receives) to average so many bytes of gradients once.

    2 (N - 1) / N times the gradients: a ring adds up N parts in N - 1 steps and hands them round in as many, and no
    way of averaging sends less. Source: Patarasuk and Yuan 2009, section 3. Raises InputError for no gradients that
    can be, and fewer than one process.
    """
    require_whole("gradients", gradients, 0, of="bytes")
    require_whole("processes", processes)
    return -(-2 * (processes - 1) * gradients // processes)


def machine() -> dict[str, Any]:
    """On what numbers were measured."""
    return {
        "gossamer": __version__,
        "torch": torch.__version__,
        "processor": read_processor()[0],
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
    }
