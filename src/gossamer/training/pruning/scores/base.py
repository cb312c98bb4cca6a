"""What of a model matters: a score, by which units are kept or removed."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.layers import Linear
from gossamer.layers.masks import SCORES, Gate
from gossamer.models.model import Model
from gossamer.training.pruning.choice import keep_highest
from gossamer.training.pruning.units import Units, mean_scores

__all__ = ["Calibrated", "Measured", "OfWeights", "Ranked", "Ranking", "Score", "is_calibrated", "mean_of_all"]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The units of one structure of a model, which are ranked among themselves.

    scope: of each map by itself ("layer"), or of all of them ("global"). seed: of what is drawn. threshold: of scores
    that have one. seen: of each map what a `Calibrated` score reads.
    """

    model: Model
    units: Sequence[Units]
    scope: str = "layer"
    seed: int = 0
    threshold: float = 0.0
    seen: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))

    def maps(self) -> list[Linear]:
        """The maps whose weights the units are blocks of."""
        return [self.map(one.map) for one in self.units]

    def learnt(self) -> list[Tensor]:
        """The scores that are learnt, a tensor a map."""
        return [one.get_parameter(SCORES) for one in self.maps()]

    def map(self, name: str) -> Linear:
        """A linear map by its name."""
        return cast(Linear, self.model.get_submodule(name))

    def generator(self, name: str) -> torch.Generator:
        """Of what is drawn for a map, whatever other maps there are."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


class Score(ABC):
    """A kind of score is a small class in a file of its own, with its formula and its source; `name` asks for it.

    gate: how a map takes part while it is pruned (`layers.masks.Masked`). in_training: whether a training can prune by
    it. penalty_weight: what its `penalty` is multiplied by unless somebody says otherwise; None where it has none.
    """

    kinds: ClassVar[dict[str, type[Score]]] = {}
    name: ClassVar[str]
    gate: ClassVar[Gate] = "fixed"
    in_training: ClassVar[bool] = True
    penalty_weight: ClassVar[float | None] = None
    is_settled: ClassVar[bool] = False
    """Whether the first mask is the last one."""

    def __init_subclass__(cls, name: str | None = None, **rest: object) -> None:
        super().__init_subclass__(**rest)
        if name is not None:
            cls.name = name
            Score.kinds[name] = cls

    @abstractmethod
    def masks(self, ranked: Ranked, share: float) -> list[Tensor] | None:
        """The mask of each map when this share of the units is to be kept; None where its gate has none."""

    def penalty(self, scores: Sequence[Tensor]) -> Tensor:
        """What is to become less, a mean over all units."""
        raise NotImplementedError(f"{self.name} has no penalty")


class Ranking(Score):
    """One that gives a number for every unit: what is kept are those of the highest."""

    @abstractmethod
    def of_units(self, ranked: Ranked) -> list[Tensor]:
        """The score of every unit, a tensor a map."""

    def masks(self, ranked: Ranked, share: float) -> list[Tensor] | None:
        return keep_highest(self.of_units(ranked), share, ranked.scope)


class OfWeights(Ranking):
    """One that gives a number for every weight; a unit's is the mean of its weights' (`units.mean_scores`)."""

    @abstractmethod
    def of_map(self, ranked: Ranked, name: str) -> Float[Tensor, "outputs inputs"]:
        """The scores of a map's weights."""

    @torch.no_grad()
    def of_units(self, ranked: Ranked) -> list[Tensor]:
        names = {name for one in ranked.units for name in (one.map, *(leading for leading, _ in one.leading))}
        scores = {name: self.of_map(ranked, name) for name in sorted(names)}
        return [mean_scores(one, scores) for one in ranked.units]


class Measured(OfWeights):
    """One that is told of weights as they are."""

    @abstractmethod
    def of(self, weight: Float[Tensor, "outputs inputs"], generator: torch.Generator) -> Tensor:
        """The score of every weight; a generator for what is drawn."""

    def of_map(self, ranked: Ranked, name: str) -> Float[Tensor, "outputs inputs"]:
        return self.of(ranked.map(name).weight, ranked.generator(name))


class Calibrated(OfWeights):
    """One that is told of weights and of what a model does with some rows, without training.

    reads: "gradients" of the mean loss, [outputs, inputs]; "activations", the norm over all tokens of each number that
    a map reads, [inputs].
    """

    in_training = False
    reads: ClassVar[Literal["gradients", "activations"]]

    @abstractmethod
    def of(self, weight: Float[Tensor, "outputs inputs"], seen: Float[Tensor, "..."]) -> Tensor:
        """The score of every weight."""

    def of_map(self, ranked: Ranked, name: str) -> Float[Tensor, "outputs inputs"]:
        return self.of(ranked.map(name).weight, ranked.seen[name])


def is_calibrated(name: str) -> bool:
    """Whether the score of this name reads rows without training."""
    kind = Score.kinds.get(name)
    return kind is not None and issubclass(kind, Calibrated)


def mean_of_all(values: Sequence[Tensor]) -> Tensor:
    """The mean of the numbers in all tensors."""
    return torch.stack([one.sum() for one in values]).sum() / sum(one.numel() for one in values)
