"""Heads, feed-forward neurons and layers that are named are removed: a smaller dense model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.checks import as_python
from gossamer.errors import InputError, quote
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.recipes.removal.cut import Cut, cut, remember_format
from gossamer.recipes.removal.heads_left import HeadsLeft, heads_left
from gossamer.surgery.students.student import make_student

__all__ = ["remove"]

ByLayer = Mapping[int, Collection[int]]
"""Numbers, from 0, by the number of their layer, from 0."""


def remove(
    model: Model, *, heads: ByLayer | None = None, neurons: ByLayer | None = None, layers: Sequence[int] = ()
) -> Model:
    """A copy of a model without these heads and feed-forward neurons of its layers, and without these whole layers.

    The other layers have widths of their own then, and give what they gave with those heads switched off (`head_mask`)
    and those neurons' outputs 0. All are numbered as in the model that is given. A part that loses all of them gives
    the bias of its last map; a layer before whose parts the norms stand goes where it then does nothing. Where heads
    share their keys (Llama), as many stay in every group that does, some of them with outputs of 0. Layers that share
    weights (ALBERT) lose the same, or all of themselves. Heads with patterns or tables by distance take theirs along.

    Args:
        model: an encoder or decoder with whole weights.
        heads: by the number of a layer which of its heads go: `{0: [1, 2]}`.
        neurons: likewise which of its feed-forward neurons.
        layers: which layers go, with their norms.

    Raises:
        InputError: for a layer, head or neuron that there is not, or that is named twice; for all layers; for layers
            that share weights and do not lose the same; for weights kept in parts.

    Sources: Michel et al. 2019 (arXiv 1905.10650), section 2.1, for heads; Fan et al. 2020 (LayerDrop, arXiv
    1909.11556) for layers.
    """
    check_model(model)
    check_one_text(model, "removing heads and neurons")
    if model.architecture.storages:
        kind = model.architecture.storages[0].storage.kind
        raise InputError(f"the model keeps some weights in parts ({kind}); make them whole, then remove")
    described = model.architecture
    heads, neurons, layers = as_python((heads, neurons, layers))
    gone = _check_layers(layers, len(described.layers))
    left, neurons_left = _heads(described, heads or {}, gone), _neurons(described, neurons or {}, gone)
    stay = [i for i in range(len(described.layers)) if i not in gone]
    shorter = make_student(model, stay) if gone else model
    # Weight sets are numbered anew with the layers.
    renumbered = list(zip(shorter.architecture.layers, (described.layers[i] for i in stay), strict=True))
    attention = {new.attention.weights: left[old.attention.weights] for new, old in renumbered}
    of_feed_forward = {new.feed_forward.weights: neurons_left[old.feed_forward.weights] for new, old in renumbered}
    new = cut(
        shorter,
        Cut(
            attention={number: heads for number, heads in attention.items() if heads is not None},
            neurons={number: those for number, those in of_feed_forward.items() if those is not None},
        ),
    )
    remember_format(model, new)
    return new


def _heads(described: Architecture, named: Any, gone: Collection[int]) -> dict[int, HeadsLeft | None]:
    """What stays of each weight set of attention; None: all."""
    heads = _by_set("heads", named, described.layers, gone, _attention_set, lambda layer: layer.attention.heads)
    attentions = {layer.attention.weights: layer.attention for layer in described.layers}
    return {
        number: heads_left(attentions[number], set(range(attentions[number].heads)) - heads[number])
        if heads.get(number)
        else None
        for number in attentions
    }


def _neurons(described: Architecture, named: Any, gone: Collection[int]) -> dict[int, Tensor | None]:
    """Which neurons of each weight set of a feed-forward stay; None: all."""
    neurons = _by_set(
        "neurons", named, described.layers, gone, _feed_forward_set, lambda layer: layer.feed_forward.width
    )
    widths = {layer.feed_forward.weights: layer.feed_forward.width for layer in described.layers}
    return {
        number: torch.tensor(sorted(set(range(width)) - neurons[number]), dtype=torch.int64)
        if neurons.get(number)
        else None
        for number, width in widths.items()
    }


def _by_set(
    name: str,
    named: Any,
    layers: Sequence[Layer],
    gone: Collection[int],
    weight_set: Callable[[Layer], int],
    count: Callable[[Layer], int],
) -> dict[int, set[int]]:
    """What is named, by weight set; InputError where the layers of one do not lose the same."""
    if not isinstance(named, Mapping):
        raise InputError(f"{name} is {quote(named)}; it must name them by layer, such as {{0: [1, 2]}}")
    _check_numbers(name, list(named), len(layers), "the model's layers go")
    for i, numbers in named.items():
        _check_numbers(f"{name}[{i}]", numbers, count(layers[i]), "those of the layer go")
    first: dict[int, int] = {}
    for i, layer in enumerate(layers):
        if i in gone:
            continue
        other = first.setdefault(weight_set(layer), i)
        if set(named.get(i, ())) != set(named.get(other, ())):
            raise InputError(
                f"layers {other} and {i} share their weights, and {name} names others for layer {i}: name the same for "
                "all layers that do"
            )
    return {number: set(named.get(i, ())) for number, i in first.items()}


def _attention_set(layer: Layer) -> int:
    return layer.attention.weights


def _feed_forward_set(layer: Layer) -> int:
    return layer.feed_forward.weights


def _check_layers(layers: Any, count: int) -> set[int]:
    _check_numbers("layers", layers, count, "the model's layers go")
    if len(layers) == count:
        raise InputError(f"layers names all {count}; leave at least one of them")
    return set(layers)


def _check_numbers(name: str, numbers: Any, count: int, of: str) -> None:
    if not isinstance(numbers, Collection) or isinstance(numbers, str | bytes | Mapping):
        raise InputError(f"{name} is {quote(numbers)}; it must be a list of numbers, such as [1, 2]")
    for number in numbers:
        if type(number) is not int or not 0 <= number < count:
            there = f"{of} from 0 to {count - 1}" if count else "the layer has none"
            raise InputError(f"{name} has {quote(number)}; {there}")
    if len(set(numbers)) != len(numbers):
        twice = next(number for number in numbers if list(numbers).count(number) > 1)
        raise InputError(f"{name} has {twice} twice; name it once")
