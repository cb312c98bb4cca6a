"""How much of a model's layers is not 0: counted of the weights themselves."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from gossamer.layers import Linear
from gossamer.models.model import Model

__all__ = ["count_nonzero", "describe_density", "empty_maps"]

_PARTS = {"attention": "attention", "cross_attention": "cross-attention", "feed_forward": "feed-forward"}


def _maps(model: Model) -> dict[str, Linear]:
    """The linear maps of the layers, by name."""
    named = model.named_modules()
    return {name: one for name, one in named if isinstance(one, Linear) and name.partition(".")[0] in _PARTS}


def count_nonzero(model: Model) -> int:
    """The weights of the layers' linear maps that are not 0, without biases."""
    return sum(int(one.whole_weight().count_nonzero()) for one in _maps(model).values())


def empty_maps(model: Model) -> list[str]:
    """The names of the layers' linear maps of which nothing is left."""
    return [name for name, one in _maps(model).items() if not one.whole_weight().any()]


def describe_density(model: Model) -> dict[str, Any]:
    """For a receipt: how many weights are not 0, and their share in each weight set of attention and feed-forward."""
    sets: dict[tuple[str, str], list[Tensor]] = {}
    for name, one in _maps(model).items():
        part, number, _ = name.split(".", 2)
        sets.setdefault((part, number), []).append(one.whole_weight())
    shares: dict[str, list[float]] = {}
    for (part, _), weights in sets.items():
        share = sum(int(one.count_nonzero()) for one in weights) / sum(one.numel() for one in weights)
        shares.setdefault(f"density of {_PARTS[part]}", []).append(round(share, 4))
    return {"nonzero weights of layers": count_nonzero(model), **shares}
