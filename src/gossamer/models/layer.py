"""One layer of a stack, and what layers of one stack must agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from gossamer.errors import InputError, quote
from gossamer.models.bricks import (
    LAYER_NORM,
    Attention,
    DistanceTable,
    FeedForward,
    Norm,
    RelativePositions,
    require_norm,
)
from gossamer.models.checks import require, require_choice
from gossamer.models.settings import NormPlace, norm_count
from gossamer.patterns import Full

__all__ = ["Layer", "check_weight_sets"]

Recompute = Literal["nothing", "attention", "feed_forward", "both"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One application of attention and feed-forward; with `cross_attention` of that to other states in between.

    `norm` is that of both parts, `norm_place` where it stands: "post" normalises after the residual sum, as BERT does,
    "pre" what a part reads, as GPT-2 and the Sparse Transformer (section 5.2) do, "both" what it reads and, by a norm
    of its own, what it gives before that is added (Gemma 2: arXiv 2408.00118, section 2), "none" nothing. A pair is
    attention's and the feed-forward's: ModernBERT's first layer is ("none", "pre"). While training, `recompute` keeps
    only the input of the named part and computes it once more in the backward pass (Sparse Transformer, section 5.4).
    """

    attention: Attention
    feed_forward: FeedForward
    norm: Norm = LAYER_NORM
    norm_place: NormPlace | tuple[NormPlace, NormPlace] = "post"
    recompute: Recompute = "nothing"
    cross_attention: Attention | None = None

    def __post_init__(self) -> None:
        if self.cross_attention is not None:
            _check_cross(self.cross_attention)
        require_norm(self, "norm", optional=False)
        require_choice(self, Recompute, "recompute")
        self._check_places()

    def _check_places(self) -> None:
        place = self.norm_place
        is_pair = isinstance(place, tuple) and len(place) == 2
        named = [one in get_args(NormPlace) for one in (place if is_pair else (place,)) if isinstance(one, str)]
        allowed = f"one of {', '.join(map(repr, get_args(NormPlace)))}, or a pair of them: attention's, feed-forward's"
        require(named == [True] * (2 if is_pair else 1), "norm_place", place, allowed)
        if is_pair and place[0] == place[1]:
            # One spelling, so that layers that are alike are equal.
            object.__setattr__(self, "norm_place", place[0])

    @property
    def norm_places(self) -> tuple[NormPlace, NormPlace]:
        """Where the norms of attention and of the feed-forward stand."""
        place = self.norm_place
        return place if isinstance(place, tuple) else (place, place)


def check_weight_sets(layers: Sequence[Layer]) -> None:
    """Raise InputError unless weight sets are numbered without gaps, and layers that share one give it one shape."""
    _check_sharing("attention", {i: _attention_shape(one) for i, one in enumerate(layers)})
    _check_sharing("feed_forward", {i: _feed_forward_shape(one) for i, one in enumerate(layers)})
    tables = {i: _table_shape(one.attention, one.attention.distance_bias) for i, one in enumerate(layers)}
    _check_sharing("distance_bias", {i: shape for i, shape in tables.items() if shape is not None})
    crossing = {i: _heads_shape(one.cross_attention, one) for i, one in enumerate(layers) if one.cross_attention}
    _check_sharing("cross_attention", crossing)


def _check_sharing(part: str, shapes: Mapping[int, tuple[int, tuple[object, ...]]]) -> None:
    sets = sorted({weights for weights, _ in shapes.values()})
    require(sets == list(range(len(sets))), f"layers.{part}.weights", sets, "numbered 0, 1, 2 ... without gaps")
    first: dict[int, tuple[object, ...]] = {}
    for i, (weights, shape) in shapes.items():
        known = first.setdefault(weights, shape)
        if known != shape:
            raise InputError(f"layers[{i}].{part} shares weight set {weights} but is shaped {shape}, not {known}")


def _table_shape(
    one: Attention, table: DistanceTable | RelativePositions | None
) -> tuple[int, tuple[object, ...]] | None:
    if isinstance(table, RelativePositions):
        return table.weights, (table.span, table.farthest, table.norm, table.dropout)
    return None if table is None else (table.weights, (one.heads, table.before, table.after, table.buckets))


def _attention_shape(layer: Layer) -> tuple[int, tuple[object, ...]]:
    return _heads_shape(layer.attention, layer)


def _heads_shape(one: Attention, layer: Layer) -> tuple[int, tuple[object, ...]]:
    relative = one.distance_bias if isinstance(one.distance_bias, RelativePositions) else None
    maps = () if relative is None else (relative.terms, relative.own_maps)
    biases, norms = (
        (one.bias, one.output_bias, one.shared_query_key),
        (one.query_key_norm, *_norms_of(layer.norm, layer.norm_places[0], one.heads > 0)),
    )
    return one.weights, (one.heads, one.head_size, one.key_inner, one.global_projections, *biases, *norms, *maps)


def _check_cross(settings: Attention) -> None:
    what = "with cross-attention: its keys are another text's"
    require(settings.heads > 0, "cross_attention.heads", settings.heads, "1 or more")
    require(settings.pattern == Full(), "cross_attention.pattern", settings.pattern, f"Full() {what}")
    refused = {"global_projections": False, "rotary": None, "distance_bias": None, "shared_query_key": False}
    for name, usual in refused.items():
        value = getattr(settings, name)
        require(value == usual, f"cross_attention.{name}", value, f"{quote(usual)} {what}")


def _feed_forward_shape(layer: Layer) -> tuple[int, tuple[object, ...]]:
    one = layer.feed_forward
    norms = _norms_of(layer.norm, layer.norm_places[1], one.width > 0)
    return one.weights, (one.width, one.activation, one.gated, one.bias, *norms)


def _norms_of(norm: Norm, place: NormPlace, reads: bool) -> tuple[Norm, ...]:
    return (norm,) * norm_count(place, reads=reads)
