"""What a training that prunes does beside learning: masks that follow a schedule, a penalty, what the journal tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from gossamer.layers import Linear, Masked
from gossamer.layers.masks import MASK, SCORES, summed
from gossamer.models.architecture import Architecture, StoredMaps
from gossamer.models.model import Model
from gossamer.training.pruning.schedule import share_at, steps_of
from gossamer.training.pruning.scores import Ranked, Ranking, Score
from gossamer.training.pruning.settings import PruningSettings
from gossamer.training.pruning.units import Units, find_units, remove

__all__ = ["Pruner", "masked", "pruned_units"]


def pruned_units(model: Model, settings: PruningSettings) -> list[list[Units]]:
    """The units of each structure; InputError for a model that has none, and a share that leaves none."""
    if settings.score == "zeros":
        return [find_units(model, ("weight",), (1, 1))]
    return settings.units(model)


def masked(architecture: Architecture, units: list[list[Units]], settings: PruningSettings) -> Architecture:
    """The same model with the maps of these units masked."""
    maps: dict[Masked, list[str]] = {}
    for one in (one for some in units for one in some):
        storage = Masked(gate=Score.kinds[settings.score].gate, block=one.block)
        maps.setdefault(storage, []).append(one.map)
    stored = tuple(StoredMaps(maps=tuple(sorted(names)), storage=storage) for storage, names in maps.items())
    return dataclasses.replace(architecture, storages=stored)


class Pruner:
    """Prunes a model, in place, as it is trained: its maps are masked from now on.

    All that it knows beside the settings is in the model's own tensors, so that a run which goes on from a checkpoint
    prunes as one that was never stopped. steps: of the whole run.
    """

    def __init__(self, model: Model, settings: PruningSettings, seed: int, steps: int) -> None:
        self.model, self.settings = model, settings
        self.score = Score.kinds[settings.score]()
        self._first, self._last = steps_of(settings.warmup, settings.cooldown, steps)
        units = pruned_units(model, settings)
        self._budget = None if self.score.is_settled else settings.budget(model, units)
        self._ranked = [
            Ranked(model=model, units=some, scope=settings.scope, seed=seed, threshold=settings.threshold)
            for some in units
        ]
        architecture = masked(model.architecture, units, settings)
        for stored in architecture.storages:
            for name in stored.maps:
                cast(Linear, model.get_submodule(name)).store(stored.storage)
        model.architecture = architecture
        if self.score.is_settled:
            self._set_masks(settings.share)

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates of parameters that have one of their own, by name: the scores."""
        if self.score.gate == "fixed":
            return {}
        return {f"{one.map}.{SCORES}": self.settings.learning_rate for one in self._units()}

    @property
    def touched(self) -> set[str]:
        """The maps that `settle` may change beside those that are masked."""
        return {name for one in self._units() for name, _ in one.leading}

    def is_done(self, step: int) -> bool:
        """Whether no more than the share that stays was kept in the step before this one."""
        return self.score.is_settled or step > self._last

    def before_step(self, step: int) -> None:
        """Set the masks of a step."""
        is_due = (step - self._first) % self.settings.every == 0 or step == self._last
        if is_due and step >= self._first and not self.score.is_settled:
            self._set_masks(self._share(step))

    def add_gradients(self, step: int) -> None:
        """Add those of the penalty, once for all parts and processes of a step, to those that the loss gave."""
        value = self._penalty(step)
        if value is None:
            return
        scores = [one for ranked in self._ranked for one in ranked.learnt()]
        for one, gradient in zip(scores, torch.autograd.grad(value, scores), strict=True):
            one.grad = gradient if one.grad is None else one.grad.add_(gradient)

    def numbers(self, step: int) -> dict[str, float]:
        """For the journal: the share of units that is kept, the one that the schedule wants, and the penalty if any.

        With a latency the schedule wants a share of the time; beside it the one that the table gives what is kept.
        """
        with torch.no_grad():
            value = self._penalty(step)
        wanted = 1.0 if self.score.is_settled else self._share(step)
        told = {"kept": self._kept(), "keep" if self._budget is None else "latency": wanted}
        if self._budget is not None:
            told["time"] = self._budget.share_of([[left for left, _ in some] for some in self._counts()])
        has_penalty = self.score.penalty_weight is not None
        return told | ({"penalty": 0.0 if value is None else float(value)} if has_penalty else {})

    @torch.no_grad()
    def settle(self, model: Model) -> None:
        """Set to 0, in a model of whole weights, what leads to units of which nothing is left; outputs stay."""
        for one in self._units():
            if one.leading:
                weight = cast(Linear, model.get_submodule(one.map)).weight
                remove(model, one, (summed(weight.abs(), one.block) != 0).to(weight.dtype))

    def _units(self) -> Iterator[Units]:
        return (one for ranked in self._ranked for one in ranked.units)

    def _share(self, step: int) -> float:
        return share_at(self.settings.schedule, self.settings.share, self._first, self._last, step)

    @torch.no_grad()
    def _set_masks(self, share: float) -> None:
        for ranked, masks in zip(self._ranked, self._masks(share), strict=True):
            for one, mask in zip(ranked.maps(), masks or (), strict=masks is not None):
                one.get_parameter(MASK).copy_(mask)

    def _masks(self, share: float) -> Sequence[list[Tensor] | None]:
        """Of each structure's maps when this share is to be kept, of the units or of the time."""
        if self._budget is None:
            return [self.score.masks(ranked, share) for ranked in self._ranked]
        score = cast(Ranking, self.score)
        return self._budget.masks([score.of_units(ranked) for ranked in self._ranked], share)

    @torch.no_grad()
    def _counts(self) -> list[list[tuple[int, int]]]:
        """Of each structure's maps how many units are kept, and how many there are."""
        gates = [[cast(Masked, one.storage).gates(one) for one in ranked.maps()] for ranked in self._ranked]
        return [[(int(one.count_nonzero()), one.numel()) for one in some] for some in gates]

    def _kept(self) -> float:
        left, there = zip(*(pair for some in self._counts() for pair in some), strict=True)
        return sum(left) / sum(there)

    def _penalty(self, step: int) -> Tensor | None:
        """It counts while more is kept than the schedule says."""
        weight = self.score.penalty_weight if self.settings.penalty is None else self.settings.penalty
        if not weight or self._kept() <= self._share(step):
            return None
        return weight * self.score.penalty([one for ranked in self._ranked for one in ranked.learnt()])
