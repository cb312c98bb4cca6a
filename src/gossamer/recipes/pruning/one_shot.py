"""Pruning at once: every weight gets its score, and the units of the lowest are set to 0."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from gossamer.layers import Linear
from gossamer.models.model import Model
from gossamer.training.pruning.choice import by_structure, keep_highest
from gossamer.training.pruning.scores import Measured
from gossamer.training.pruning.units import Units, mean_scores, remove

__all__ = ["prune_at_once"]


@torch.no_grad()
def prune_at_once(model: Model, units: Sequence[Units], score: Measured, share: float, scope: str, seed: int) -> None:
    """Set to 0, in place, all but this share of the units of each structure, by their scores."""
    for some in by_structure(units):
        names = {name for one in some for name in (one.map, *(leading for leading, _ in one.leading))}
        scores = {name: score.of(_weight(model, name), _generator(seed, name)) for name in sorted(names)}
        masks = keep_highest([mean_scores(one, scores) for one in some], share, scope)
        for one, mask in zip(some, masks, strict=True):
            remove(model, one, mask)


def _weight(model: Model, name: str) -> torch.Tensor:
    one = model.get_submodule(name)
    assert isinstance(one, Linear)
    return one.weight


def _generator(seed: int, name: str) -> torch.Generator:
    """Of what is drawn for a map, whatever other maps there are."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
