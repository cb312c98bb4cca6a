"""A narrower model from a wide one: fewer hidden dimensions, heads and feed-forward neurons, chosen or mapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.models.architecture import Architecture, DistanceTable, Layer
from gossamer.models.checks import require
from gossamer.models.heads import DenseLayer, SentenceEmbedding
from gossamer.models.model import Model
from gossamer.surgery.rebuild import rebuild
from gossamer.surgery.students.narrow_maps import blocks_of, chosen_columns, hidden_map, inner_maps, mapped, through
from gossamer.surgery.students.narrow_states import fit_norms, sample_batch, second_moments

__all__ = ["NarrowBy", "Size", "Widths", "describe_widths", "narrow"]

NarrowBy = Literal["neurons", "linear"]
Size = int | Sequence[int] | None

_TABLE = "embeddings.word.weight"
_WORDS = {"neurons": "dimensions chosen", "linear": "by a linear map"}


@dataclass(frozen=True, kw_only=True)
class Widths:
    """How wide a student is: so many of the teacher's, the most important ones, or which ones, from 0; None: all.

    hidden_size: dimensions of the states; heads, feedforward_size: heads and neurons of each layer. by: whether the
    hidden dimensions are chosen ("neurons") or mapped ("linear"). texts: what the teacher reads to tell which matter.
    """

    hidden_size: Size = None
    heads: Size = None
    feedforward_size: Size = None
    by: NarrowBy = "neurons"
    texts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        require(self.by in get_args(NarrowBy), "narrow", self.by, "'neurons' or 'linear'")
        if self.by == "linear" and self.hidden_size is None:
            raise InputError(
                "narrow is 'linear', which maps hidden dimensions; give hidden_size, how many there are to be"
            )
        if self.by == "linear" and not isinstance(self.hidden_size, int):
            raise InputError(
                "hidden_size lists dimensions and narrow is 'linear', which maps them all; give their number"
            )

    @property
    def narrower(self) -> dict[str, Size]:
        """Those that were asked for."""
        sizes = {name: getattr(self, name) for name in ("hidden_size", "heads", "feedforward_size")}
        listed = {name: list(size) if isinstance(size, tuple | range) else size for name, size in sizes.items()}
        return {name: size for name, size in listed.items() if size is not None}


def narrow(model: Model, widths: Widths) -> Model:
    """A copy of a model with narrower states, fewer heads and fewer feed-forward neurons.

    Every weight goes through the maps of its two sides, `W -> P^T W Q`. Of heads and neurons P chooses columns, those
    of the largest norms of their output weights in each layer. Of the hidden dimensions it chooses those in which
    states are largest, over all layers and the tokens of `texts` (shipped speeches unless given; drawn ids where there
    is no tokenizer); by "linear" it is the orthonormal map to their leading directions (a principal component analysis
    of states, the direction of the mean among them). Gains and biases of norms are such that over those tokens each
    dimension has the mean and deviation that the teacher's has. What a head has behind an activation is chosen. Where
    hidden_size alone is given, heads go with it, their size kept, and so do neurons. A model of vectors gets P as a map
    back to their old width, which LEAF has (arXiv 2509.12539).

    Raises InputError for sizes that there are not, heads that differ by pattern or table, and weights kept in parts.
    """
    old = model.architecture
    _check(model, widths)
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    maps = _layer_maps(weights, old, widths)
    if widths.hidden_size is not None:
        batch = sample_batch(model, widths.texts)
        maps |= _hidden_maps(model, weights, widths, batch)
    new = {name: mapped(name, tensor, maps) for name, tensor in weights.items()}
    architecture = _described(old, maps, widths)
    if architecture.head != old.head:
        new["head.dense.0.weight"] = through(torch.eye(old.hidden_size).to(weights[_TABLE]), 1, maps["hidden"])
    student = rebuild(model, architecture, new, source=str)
    if "hidden" in maps:
        fit_norms(model, student, maps, batch)
    return student


def describe_widths(old: Architecture, new: Architecture, widths: Widths) -> str:
    """What became narrower, in a line of a receipt."""
    parts = [f"states {new.hidden_size} of {old.hidden_size} wide, {_WORDS[widths.by]}"] if widths.hidden_size else []
    first, of_old = new.layers[0], old.layers[0]
    if first.attention.heads != of_old.attention.heads:
        parts.append(f"{first.attention.heads} of {of_old.attention.heads} heads")
    if first.feed_forward.width != of_old.feed_forward.width:
        parts.append(f"{first.feed_forward.width} of {of_old.feed_forward.width} feed-forward neurons")
    return "narrower: " + "; ".join(parts or ["all of its widths"])


def _check(model: Model, widths: Widths) -> None:
    if model.architecture.storages:
        raise InputError("the teacher keeps some weights in parts (storages); merge them, then make it narrower")
    if widths.hidden_size is not None and model.architecture.reversible == "concatenated":
        raise InputError(
            "the teacher's streams are concatenated, which no map of one of them narrows; keep hidden_size"
        )
    if widths.hidden_size is not None:
        _check_size("hidden_size", widths.hidden_size, model.architecture.hidden_size)
        positions = model.architecture.embeddings.positions
        allowed = "left out: the teacher's positions lie side by side, whose columns no one map narrows"
        require(not positions.axis_sizes, "hidden_size", widths.hidden_size, allowed)
        before = model.architecture.embeddings.norms_states
        allowed = "left out: the teacher's embeddings are normed behind their map, whose width no map of tables narrows"
        require(not before, "hidden_size", widths.hidden_size, allowed)
        scheme = positions.scheme
        allowed = "left out: the teacher adds sinusoids of its own width to its states"
        require(scheme != "sinusoidal", "hidden_size", widths.hidden_size, allowed)


def _layer_maps(weights: Mapping[str, Tensor], old: Architecture, widths: Widths) -> dict[str, Tensor]:
    """Which columns of heads and of neurons each weight set keeps."""
    maps: dict[str, Tensor] = {}
    for layer in old.layers:
        maps |= _heads_of(weights, layer, _heads_wanted(old, layer, widths), widths)
        number, width = layer.feed_forward.weights, layer.feed_forward.width
        wanted = widths.feedforward_size
        if wanted is None and widths.hidden_size is not None and width:
            wanted = max(1, round(width * _count(widths.hidden_size) / old.hidden_size))
        name = f"feed_forward.{number}.down.weight"
        if wanted is not None:
            _check_size("feedforward_size", wanted, width)
            maps[f"widths.{number}"] = _chosen(wanted, _by_norm(weights, name, 1))
    return maps


def _heads_wanted(old: Architecture, layer: Layer, widths: Widths) -> Size:
    """Those that were asked for, or as many as a narrower state is wide where all heads were as wide as a state."""
    one = layer.attention
    if widths.heads is not None or widths.hidden_size is None or one.inner != old.hidden_size:
        return widths.heads
    count = _count(widths.hidden_size)
    if count % one.head_size:
        raise InputError(
            f"hidden_size is {count}; heads are {one.head_size} wide: give a multiple of that, or heads as well"
        )
    return count // one.head_size


def _heads_of(weights: Mapping[str, Tensor], layer: Layer, wanted: Size, widths: Widths) -> dict[str, Tensor]:
    one = layer.attention
    if wanted is None or not one.heads or (wanted == one.heads and isinstance(wanted, int)):
        return {}
    if one.pattern.differs_by_head or isinstance(one.distance_bias, DistanceTable):
        what = "patterns" if one.pattern.differs_by_head else "tables by distance"
        # Where nobody named heads they go with the states.
        goes_along = widths.heads is None
        asked = f"hidden_size is {quote(widths.hidden_size)}" if goes_along else f"heads is {quote(wanted)}"
        remedy = f"give heads={one.heads}, all of them" if goes_along or widths.hidden_size else "leave heads out"
        raise InputError(f"{asked}; the teacher's heads have {what} of their own: {remedy}")
    _check_size("heads", wanted, one.heads)
    sharing = one.heads // (one.key_heads or one.heads)
    name = f"attention.{one.weights}.output.weight"
    chosen = _chosen(_whole_groups(wanted, sharing), _by_norm(weights, name, sharing * one.head_size))
    queries, keys = blocks_of(chosen, sharing * one.head_size), blocks_of(chosen, one.head_size)
    by_side = {"queries": queries, "heads": queries, "keys": keys, "values": keys}
    return {f"{side}.{one.weights}": columns for side, columns in by_side.items()}


def _whole_groups(wanted: int | Sequence[int], sharing: int) -> int | list[int]:
    """Heads as groups of those that share keys. InputError for a part of one."""
    if isinstance(wanted, int):
        if wanted % sharing == 0:
            return wanted // sharing
    else:
        groups = sorted({head // sharing for head in wanted})
        if len(groups) * sharing == len(wanted):
            return groups
    raise InputError(f"heads is {quote(wanted)}; {sharing} of the teacher's share their keys: take whole groups")


def _hidden_maps(
    model: Model, weights: Mapping[str, Tensor], widths: Widths, batch: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    old, wanted = model.architecture, widths.hidden_size
    assert wanted is not None
    norms = [old.final_norm, *(layer.norm for layer in old.layers)]
    centred = any(norm is not None and norm.kind == "layer" for norm in norms)

    def largest(count: int) -> Tensor:
        moments = second_moments(model, batch)
        return hidden_map(moments, count, chooses=widths.by == "neurons", centred=centred)

    hidden = _chosen(wanted, largest)
    table = None if old.embeddings.projection else hidden
    inner = inner_maps(
        weights, _count(wanted), hidden=hidden, table=table, reads_table=old.head is not None and old.head.scores_words
    )
    return {"hidden": hidden} | inner | ({} if table is None else {"table": table})


def _by_norm(weights: Mapping[str, Tensor], name: str, size: int) -> Callable[[int], Tensor]:
    return lambda count: chosen_columns(weights, name, size, count)


def _chosen(wanted: int | Sequence[int], largest: Callable[[int], Tensor]) -> Tensor:
    """Those that are named, or so many of the largest."""
    return largest(wanted) if isinstance(wanted, int) else torch.tensor(list(wanted))


def _check_size(field: str, wanted: int | Sequence[int], have: int) -> None:
    """InputError for another number, or others, than there are."""
    fits = type(wanted) is int and 1 <= wanted <= have
    if isinstance(wanted, list | tuple | range) and wanted:
        fits = all(type(one) is int and 0 <= one < have for one in wanted) and len(set(wanted)) == len(wanted)
    if not fits:
        raise InputError(
            f"{field} is {quote(wanted)}; the teacher has {have}: give a number from 1 to that, or a list of different "
            f"ones from 0 to {have - 1}"
        )


def _count(wanted: Size) -> int:
    assert wanted is not None
    return wanted if isinstance(wanted, int) else len(wanted)


def _described(old: Architecture, maps: Mapping[str, Tensor], widths: Widths) -> Architecture:
    """The architecture of what the maps give."""
    size = old.hidden_size if "hidden" not in maps else _count(widths.hidden_size)
    embeddings = old.embeddings if old.embeddings.projection else replace(old.embeddings, size=size)
    head = old.head
    if isinstance(head, SentenceEmbedding) and not head.dense and "hidden" in maps:
        head = replace(head, dense=(DenseLayer(size=old.hidden_size, bias=False, activation="identity"),))
    layers = tuple(_layer(one, maps) for one in old.layers)
    return replace(old, hidden_size=size, embeddings=embeddings, layers=layers, head=head)


def _layer(layer: Layer, maps: Mapping[str, Tensor]) -> Layer:
    attention, feed_forward = layer.attention, layer.feed_forward
    heads, keys, columns = (
        maps.get(name)
        for name in (f"heads.{attention.weights}", f"keys.{attention.weights}", f"widths.{feed_forward.weights}")
    )
    if heads is not None and keys is not None:
        key_heads = None if attention.key_heads is None else len(keys) // attention.head_size
        attention = replace(attention, heads=len(heads) // attention.head_size, key_heads=key_heads)
    if columns is not None:
        feed_forward = replace(feed_forward, width=len(columns))
    return replace(layer, attention=attention, feed_forward=feed_forward)
