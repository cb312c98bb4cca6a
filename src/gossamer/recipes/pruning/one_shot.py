"""Pruning at once: every unit gets its score, and those of the lowest are set to 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from gossamer.models.model import Model
from gossamer.training.pruning.choice import keep_highest
from gossamer.training.pruning.scores import OfWeights, Ranked
from gossamer.training.pruning.settings import Selection
from gossamer.training.pruning.units import Units, remove

__all__ = ["prune_at_once"]


def prune_at_once(
    model: Model,
    units: Sequence[Sequence[Units]],
    score: OfWeights,
    selection: Selection,
    seed: int,
    seen: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Set to 0, in place, all but the selected share of the units of each structure, by their scores.

    seed: of what is drawn; seen: of each map what the score reads.
    """
    for some in units:
        ranked = Ranked(model=model, units=some, scope=selection.scope, seed=seed, seen=seen)
        masks = keep_highest(score.of_units(ranked), selection.keep, selection.scope)
        for one, mask in zip(some, masks, strict=True):
            remove(model, one, mask)
