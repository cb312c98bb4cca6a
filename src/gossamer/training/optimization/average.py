"""The running average of a training's weights, which is evaluated and saved in place of the last ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.models.checks import require, require_positive
from gossamer.training.processes import whole
from gossamer.training.resume.state import placed

__all__ = ["Average", "AverageSettings", "decay_at", "is_average"]

_NAME = "average"


@dataclass(frozen=True, kw_only=True)
class AverageSettings:
    """After each step average = decay x average + (1 - decay) x weights, beginning with the weights at the start.

    `warmup`: the average's half-life is at most this share of the steps so far, so that it soon forgets the start;
    None for none. Sources: Polyak and Juditsky 1992 for averaging; Karras et al. 2022 (arXiv 2206.00364), whose code
    lets the half-life rise so, by 0.05 of what was learnt from.
    """

    decay: float = 0.999
    warmup: float | None = None

    def __post_init__(self) -> None:
        fits = type(self.decay) in (int, float) and 0 < self.decay < 1
        require(fits, "decay", self.decay, "a number above 0 and below 1")
        if self.warmup is not None:
            require_positive(self, "warmup")


def decay_at(settings: AverageSettings, step: int) -> float:
    """The decay after update `step`, the first being 0: 0.5^(1 / min(half-life of the decay, warmup x step))."""
    if settings.warmup is None:
        return settings.decay
    half_life = settings.warmup * step
    return min(settings.decay, math.exp2(-1 / half_life) if half_life else 0.0)


class Average:
    """The average of each of these parameters, beside it: in its dtype, float32 or more, and shared out as it is.

    tensors: as `tensors` told them, where a run goes on.
    """

    def __init__(
        self, settings: AverageSettings, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
    ) -> None:
        self.settings, self._parameters = settings, parameters
        self._averages = {
            name: placed(tensors[_full(name)], one) if _full(name) in tensors else one.detach().clone()
            for name, one in parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights that update `step` has made."""
        weight = 1 - decay_at(self.settings, step)
        for name, one in self._parameters.items():
            self._averages[name].lerp_(one, weight)

    def tensors(self) -> dict[str, Tensor]:
        """The averages, whole, for a checkpoint; every process has to call it."""
        return {_full(name): whole(one).cpu().contiguous() for name, one in self._averages.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The parameters hold their averages inside the block, and their own values, to the bit, after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def settle(self) -> None:
        """Leave the averages in the parameters."""
        for name, one in self._parameters.items():
            one.copy_(self._averages[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, one in self._parameters.items():
            own = one.detach().clone()
            one.copy_(self._averages[name])
            self._averages[name].copy_(own)


def is_average(full_name: str) -> bool:
    """Whether a tensor of a checkpoint is an average."""
    return full_name.endswith(f"/{_NAME}")


def _full(name: str) -> str:
    return f"{name}/{_NAME}"
