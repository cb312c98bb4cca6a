"""A smaller dense model of what stays of each weight set: its description, and its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.layers import FeedForwardNetwork, SelfAttention
from gossamer.models.account import model_without_memory
from gossamer.models.architecture import Architecture, Attention, Layer, RelativePositions
from gossamer.models.model import Model
from gossamer.models.settings import NormPlace
from gossamer.recipes.removal.heads_left import HeadsLeft, pattern_of_heads
from gossamer.surgery.rebuild import rebuild
from gossamer.surgery.students.narrow_maps import mapped
from gossamer.surgery.students.student import make_student

__all__ = ["EVEN_FORMAT", "Cut", "cut", "remember_format"]

EVEN_FORMAT = "model_type_of_even_widths"
"""In config.json the public format that a model had before its layers differed in width."""

_PARTS = ("attention.", "feed_forward.")
_Table = tuple[int, tuple[int, ...]]
"""A table by distance, by its number, and the heads whose rows are meant."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What stays of each weight set, by its number; those that are not named stay whole.

    neurons: their old numbers, rising. added: to the bias of a feed-forward's last map, what its constant neurons gave.
    """

    attention: Mapping[int, HeadsLeft] = field(default_factory=dict)
    neurons: Mapping[int, Int[Tensor, "neurons"]] = field(default_factory=dict)
    added: Mapping[int, Float[Tensor, "hidden"]] = field(default_factory=dict)


@torch.no_grad()
def cut(model: Model, what: Cut) -> Model:
    """The model without the rest: a copy, with the widths of `what` in each layer.

    A part without heads or neurons gives its last bias; a layer that does nothing then is left out, if another stays.
    """
    old = model.architecture
    biases, tables = _biases(model, what), _tables(old, what)
    layers = tuple(_layer(layer, what, biases, tables) for layer in old.layers)
    read = any(layer.attention.global_projections or layer.attention.pattern.sees_flags for layer in layers)
    architecture = replace(old, layers=layers, global_tokens=old.global_tokens if read else "none")
    names = model_without_memory(architecture).state_dict().keys()
    weights = _weights(model, what, tables) | biases
    new = rebuild(model, architecture, {name: weights[name] for name in names & weights.keys()}, source=str)
    remember_format(model, new)
    return _without_idle_layers(new)


def remember_format(old: Model, new: Model) -> None:
    """Note the public format of a model that is now in another."""
    if new.family != old.family:
        new.extra_config.setdefault(EVEN_FORMAT, old.family)


def _layer(layer: Layer, what: Cut, biases: Mapping[str, Tensor], tables: Mapping[_Table, int]) -> Layer:
    attention, feed_forward = layer.attention, layer.feed_forward
    left, neurons = what.attention.get(attention.weights), what.neurons.get(feed_forward.weights)
    if left is not None:
        attention = _attention(attention, left, biases, tables)
    elif attention.distance_bias is not None:
        number = tables[_table(attention, range(attention.heads))]
        attention = replace(attention, distance_bias=replace(attention.distance_bias, weights=number))
    if neurons is not None and len(neurons):
        feed_forward = replace(feed_forward, width=len(neurons))
    elif neurons is not None:
        bias = bool(biases[f"feed_forward.{feed_forward.weights}.down.bias"].any())
        feed_forward = replace(feed_forward, width=0, bias=bias)
    return replace(layer, attention=attention, feed_forward=feed_forward)


def _attention(
    old: Attention, left: HeadsLeft, biases: Mapping[str, Tensor], tables: Mapping[_Table, int]
) -> Attention:
    pattern = pattern_of_heads(old, left.heads)
    if not left.heads:
        bias = bool(biases[f"attention.{old.weights}.output.bias"].any())
        return replace(
            old, pattern=pattern, heads=0, key_heads=None, shared_query_key=False, distance_bias=None, output_bias=bias
        )
    table, size = old.distance_bias, left.head_size
    return replace(
        old,
        pattern=pattern,
        heads=len(left.heads),
        key_heads=None if len(left.key_heads) == len(left.heads) else len(left.key_heads),
        head_size=size,
        # Scores are divided as they were.
        scale=old.head_size**-0.5 if old.scale is None and size != old.head_size else old.scale,
        distance_bias=None if table is None else replace(table, weights=tables[_table(old, left.heads)]),
    )


def _table(attention: Attention, heads: Sequence[int]) -> _Table:
    """Which rows of which table by distance; no rows of its own has what all heads read alike."""
    table = attention.distance_bias
    assert table is not None
    return table.weights, () if isinstance(table, RelativePositions) else tuple(heads)


def _tables(old: Architecture, what: Cut) -> dict[_Table, int]:
    """New numbers of the tables by distance: layers that shared one share the new one where the same heads stay."""
    wanted: dict[_Table, int] = {}
    for layer in old.layers:
        attention = layer.attention
        left = what.attention.get(attention.weights)
        heads = range(attention.heads) if left is None else left.heads
        if attention.distance_bias is not None and heads:
            wanted.setdefault(_table(attention, heads), len(wanted))
    return wanted


def _weights(model: Model, what: Cut, tables: Mapping[_Table, int]) -> dict[str, Tensor]:
    """The tensors of the layers with the rows and columns that stay."""
    old = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    maps = {f"widths.{number}": neurons for number, neurons in what.neurons.items()}
    for layer in model.architecture.layers:
        left = what.attention.get(layer.attention.weights)
        if left is not None:
            maps |= left.maps(layer.attention)
    weights = {name: mapped(name, tensor, maps).clone() for name, tensor in old.items() if name.startswith(_PARTS)}
    for number, left in what.attention.items():
        weights[f"attention.{number}.output.weight"][:, left.silent_columns()] = 0
    for (table, heads), number in tables.items():
        if heads:
            weights[f"distance_bias.{number}.weight"] = old[f"distance_bias.{table}.weight"][list(heads)].clone()
            continue
        stem = f"distance_bias.{table}."
        states = {name.removeprefix(stem): one for name, one in old.items() if name.startswith(stem)}
        weights |= {f"distance_bias.{number}.{name}": one.clone() for name, one in states.items()}
    return weights


def _biases(model: Model, what: Cut) -> dict[str, Tensor]:
    """The new biases of last maps: what parts give that read nothing any more, and what constant neurons gave."""
    biases: dict[str, Tensor] = {}
    for layer in model.architecture.layers:
        number, place = layer.attention.weights, layer.norm_places[0]
        if number in what.attention and not what.attention[number].heads:
            attention = cast(SelfAttention, model.attention[number])
            biases[f"attention.{number}.output.bias"] = _constant(attention, attention.output.bias, model, place)
        number, place = layer.feed_forward.weights, layer.norm_places[1]
        feed_forward = cast(FeedForwardNetwork, model.feed_forward[number])
        last: Tensor | None = feed_forward.down.bias
        added = what.added.get(number)
        if last is not None and added is not None:
            last = (last.double() + added).to(last.dtype)
            biases[f"feed_forward.{number}.down.bias"] = last
        if number in what.neurons and not len(what.neurons[number]):
            biases[f"feed_forward.{number}.down.bias"] = _constant(feed_forward, last, model, place)
    return biases


def _constant(
    part: SelfAttention | FeedForwardNetwork, last: Tensor | None, model: Model, place: NormPlace
) -> Float[Tensor, "hidden"]:
    """What a part adds without heads or neurons, the norm of what it gives included."""
    states = model.embeddings.word.weight.new_zeros(model.architecture.hidden_size)
    states = states if last is None else last.detach().clone()
    return states if place != "both" or part.output_norm is None else part.output_norm(states)


def _without_idle_layers(model: Model) -> Model:
    """The model without layers that do nothing; one stays."""
    busy = [
        i
        for i, layer in enumerate(model.architecture.layers)
        if not cast(SelfAttention, model.attention[layer.attention.weights]).does_nothing
        or not cast(FeedForwardNetwork, model.feed_forward[layer.feed_forward.weights]).does_nothing
    ]
    return model if len(busy) == len(model.architecture.layers) else make_student(model, busy or [0])
