"""Layers of other widths made as wide as the widest, with zeros: what `transformers` reads gives the same outputs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.families import FAMILIES, NATIVE, Family, family_for
from gossamer.models.account import model_without_memory
from gossamer.models.architecture import Architecture, Attention, DistanceTable, Layer, RelativePositions
from gossamer.models.model import Model
from gossamer.recipes.removal.cut import EVEN_FORMAT
from gossamer.surgery.rebuild import rebuild
from gossamer.surgery.students.narrow_maps import sides_of

__all__ = ["pad"]

Places = Int[Tensor, "columns"]


@dataclass(frozen=True, kw_only=True)
class _Widths:
    """How wide all layers become: heads that share keys in groups, columns of a head, neurons."""

    key_heads: int
    sharing: int
    head_size: int
    neurons: int

    @property
    def heads(self) -> int:
        return self.key_heads * self.sharing


def pad(model: Model) -> Model:
    """The model in the public format that it had before its layers differed in width: a copy, zeros in what is added.

    Where the format fixes the size of a head by the width of the states (all but Llama's), as many heads are added, or
    columns to each, as give that. Raises InputError where the format cannot hold it even so, saying why.
    """
    old = model.architecture
    name = model.extra_config.get(EVEN_FORMAT, model.family)
    _check(old, name)
    architecture, family = _padded(old, name)
    widths = _Widths(
        key_heads=architecture.layers[0].attention.key_heads or architecture.layers[0].attention.heads,
        sharing=_sharing(architecture.layers[0].attention),
        head_size=architecture.layers[0].attention.head_size,
        neurons=architecture.layers[0].feed_forward.width,
    )
    new = rebuild(model, architecture, _weights(model, architecture, widths), source=str)
    new.family = family.model_type
    new.extra_config.pop(EVEN_FORMAT, None)
    return new


def _check(old: Architecture, name: object) -> None:
    for i, layer in enumerate(old.layers):
        attention = layer.attention
        if attention.pattern.differs_by_head or isinstance(attention.distance_bias, DistanceTable):
            what = "patterns" if attention.pattern.differs_by_head else "tables by distance"
            raise InputError(f"layer {i} has {what} for each head, which no public format has; leave padded out")
    scales = {(layer.attention.weights, layer.attention.scale) for layer in old.layers}
    if len(scales) > len({number for number, _ in scales}):
        raise InputError("layers that share weights scale their scores differently; leave padded out")
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"{EVEN_FORMAT} is {quote(name)}; it must be one of {', '.join(FAMILIES)}")


def _padded(old: Architecture, name: str) -> tuple[Architecture, Family]:
    """The first description with even widths that a public format holds, and that format."""
    obstacles: list[str] = []
    for widths in _candidates(old):
        architecture = replace(old, layers=tuple(_layer(layer, old, widths) for layer in old.layers))
        family = family_for(architecture, name)
        if family is not NATIVE:
            return architecture, family
        obstacles = obstacles or FAMILIES[name].obstacles(architecture)
    why = obstacles[0] if obstacles else "Gossamer's own format is the only one that it had"
    raise InputError(f"padded is True, and no format of transformers holds this model: {why}; leave padded out")


def _candidates(old: Architecture) -> Iterator[_Widths]:
    """Widths for all layers: of the widest, then such that the heads' columns are as many as a state's."""
    attentions = [layer.attention for layer in old.layers]
    filled = [attention for attention in attentions if attention.heads] or [replace(attentions[0], heads=1)]
    least = _Widths(
        key_heads=max(attention.key_heads or attention.heads for attention in filled),
        sharing=max(map(_sharing, filled)),
        head_size=max(attention.head_size for attention in filled),
        neurons=max(1, *(layer.feed_forward.width for layer in old.layers)),
    )
    yield least
    fixed = any(attention.rotary or attention.query_key_norm for attention in attentions)
    states = old.hidden_size
    sizes = [states // heads for heads in range(least.heads, states + 1) if states % heads == 0]
    for size in sorted(sizes, key=lambda size: (size != least.head_size, -size)):
        if size == least.head_size or (size > least.head_size and not fixed):
            yield replace(least, key_heads=states // size // least.sharing, head_size=size)


def _layer(layer: Layer, old: Architecture, widths: _Widths) -> Layer:
    settings = layer.attention
    # A layer that has lost all heads had those of the others.
    states = next((one.attention.distance_bias for one in old.layers if one.attention.distance_bias), None)
    attention = replace(
        settings,
        heads=widths.heads,
        key_heads=None if widths.sharing == 1 else widths.key_heads,
        head_size=widths.head_size,
        scale=None if _is_absorbed(settings) and states is None else settings.scale,
        distance_bias=states,
        output_bias=any(one.attention.output_bias for one in old.layers) or (_all_empty(old) and settings.bias),
    )
    bias = any(one.feed_forward.bias for one in old.layers)
    feed_forward = replace(layer.feed_forward, width=widths.neurons, bias=bias)
    return replace(layer, attention=attention, feed_forward=feed_forward)


def _all_empty(old: Architecture) -> bool:
    return not any(layer.attention.heads for layer in old.layers)


def _is_absorbed(settings: Attention) -> bool:
    """Whether queries can be multiplied by what the scores are: a norm of queries would undo it.

    With states of distances the scores of as many columns are divided by more than their root.
    """
    return settings.query_key_norm is None and not isinstance(settings.distance_bias, RelativePositions)


def _sharing(settings: Attention) -> int:
    return settings.heads // (settings.key_heads or settings.heads)


@torch.no_grad()
def _weights(model: Model, new: Architecture, widths: _Widths) -> dict[str, Tensor]:
    """The tensors of all layers, with zeros in what is added; norms that there were not change nothing that counts."""
    old = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    places: dict[str, Places] = {}
    factors: dict[int, float] = {}
    for layer in model.architecture.layers:
        places |= _places(layer, widths)
        factors[layer.attention.weights] = _factor(layer.attention, widths)
    like = model.embeddings.word.weight
    weights = {}
    for name, empty in model_without_memory(new).state_dict().items():
        if not name.startswith(("attention.", "feed_forward.")):
            continue
        if name in old:
            full = _widened(name, old[name], empty.shape, places)
        else:
            full = like.new_full(empty.shape, float(name.endswith("norm.weight")))
        part, number, kind = name.split(".")[:3]
        if part == "attention" and kind in ("query", "query_global"):
            full = (full.double() * factors[int(number)]).to(full.dtype)
        weights[name] = full
    return weights


def _places(layer: Layer, widths: _Widths) -> dict[str, Places]:
    """Where rows and columns come to lie, by the sides of `gossamer.surgery.students.narrow_maps`."""
    settings, number = layer.attention, layer.attention.weights
    places = {f"widths.{layer.feed_forward.weights}": torch.arange(layer.feed_forward.width)}
    if not settings.heads:
        return places
    columns, sharing = torch.arange(settings.head_size), _sharing(settings)
    heads = torch.arange(settings.heads)
    heads = heads // sharing * widths.sharing + heads % sharing
    key_heads = torch.arange(settings.heads // sharing)
    of_heads, of_keys = ((those[:, None] * widths.head_size + columns).flatten() for those in (heads, key_heads))
    by_side = {"queries": of_heads, "heads": of_heads, "keys": of_keys, "values": of_keys}
    return places | {f"{side}.{number}": at for side, at in by_side.items()}


def _widened(name: str, tensor: Tensor, shape: Sequence[int], places: Mapping[str, Places]) -> Tensor:
    """A tensor's numbers at their places in one of this shape, zeros elsewhere."""
    for dimension, side in enumerate(sides_of(name)[: tensor.ndim]):
        if side in places:
            wider = tensor.new_zeros((*tensor.shape[:dimension], shape[dimension], *tensor.shape[dimension + 1 :]))
            tensor = wider.index_copy_(dimension, places[side].to(tensor.device), tensor)
    return tensor.clone()


def _factor(settings: Attention, widths: _Widths) -> float:
    """By how much queries are multiplied so that scores are those of before."""
    if not settings.heads or not _is_absorbed(settings):
        return 1.0
    scale = settings.head_size**-0.5 if settings.scale is None else settings.scale
    factor = scale * math.sqrt(widths.head_size)
    return 1.0 if math.isclose(factor, 1.0, rel_tol=1e-12) else factor
