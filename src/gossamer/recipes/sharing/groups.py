"""Layers that share their weights in groups: which set each of them names, and what the sets hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from gossamer.models.architecture import Architecture, Layer

__all__ = ["PARTS", "Parts", "Start", "group_numbers", "share_layers"]

Parts = Literal["both", "attention", "feed-forward", "none"]
Start = Literal["average"] | int
PARTS: dict[Parts, tuple[str, ...]] = {
    "both": ("attention", "feed_forward"),
    "attention": ("attention",),
    "feed-forward": ("feed_forward",),
    "none": (),
}
"""The modules of a layer that each word names."""


def group_numbers(layers: int, groups: int) -> list[int]:
    """The group of every layer: neighbours, of equal sizes where that goes up, else rounded as `transformers` does."""
    return [int(i / (layers / groups)) for i in range(layers)]


def share_layers(
    old: Architecture, weights: Mapping[str, Tensor], parts: Parts, groups: int, start: Start
) -> tuple[Architecture, dict[str, Tensor]]:
    """The architecture with a weight set for each group of layers, and the tensors of these sets by name.

    A set is the mean of those of the group's layers, or with a number that of this layer of each group. Raises
    InputError for layers of one group that are shaped differently.
    """
    numbers = group_numbers(len(old.layers), groups)
    layers = tuple(_in_group(one, PARTS[parts], number) for one, number in zip(old.layers, numbers, strict=True))
    # Whether the shapes fit is checked here, before any mean is taken.
    architecture = replace(old, layers=layers)
    shared: dict[str, Tensor] = {}
    for part in PARTS[parts]:
        for group in range(groups):
            members = [getattr(old.layers[i], part).weights for i, number in enumerate(numbers) if number == group]
            shared |= _group_weights(weights, part, group, members if start == "average" else [members[start]])
    return architecture, shared


def _in_group(layer: Layer, parts: Sequence[str], number: int) -> Layer:
    return replace(layer, **{part: replace(getattr(layer, part), weights=number) for part in parts})


def _group_weights(weights: Mapping[str, Tensor], part: str, group: int, members: Sequence[int]) -> dict[str, Tensor]:
    """The mean of these weight sets under the name of the group's."""
    first = f"{part}.{members[0]}."
    of_first = [name.removeprefix(first) for name in weights if name.startswith(first)]
    return {f"{part}.{group}.{name}": _mean([weights[f"{part}.{one}.{name}"] for one in members]) for name in of_first}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    """In float64, which not every device has."""
    like = tensors[0]
    return torch.stack([one.detach().cpu().double() for one in tensors]).mean(0).to(like.dtype).to(like.device)
