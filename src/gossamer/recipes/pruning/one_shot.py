"""Pruning at once: every unit gets its score, and those of the lowest are set to 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
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
    """Set to 0, in place, all but the selected share of the units of each structure, or of the time, by scores.

    seed: of what is drawn; seen: of each map what the score reads.
    """
    ranked = [Ranked(model=model, units=some, scope=selection.scope, seed=seed, seen=seen) for some in units]
    scores = [score.of_units(one) for one in ranked]
    budget = selection.budget(model, units)
    masks = (
        [keep_highest(some, selection.share, selection.scope) for some in scores]
        if budget is None
        else budget.masks(scores, selection.share)
    )
    for one, mask in zip(chain(*units), chain(*masks), strict=True):
        remove(model, one, mask)
