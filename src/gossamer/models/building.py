"""A model's modules, one for each weight set, as an architecture describes them."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from gossamer.errors import InputError, quote
from gossamer.layers import (
    DENSE,
    CrossAttention,
    DistanceWeights,
    FeedForwardNetwork,
    Linear,
    RelativeStates,
    SelfAttention,
    TokenEmbeddings,
)
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.bricks import Attention, DistanceTable, Embeddings, RelativePositions
from gossamer.models.norms import norm_module
from gossamer.models.settings import NormPlace, norm_count

__all__ = [
    "build_attention",
    "build_cross_attention",
    "build_distance_bias",
    "build_embeddings",
    "build_feed_forward",
    "norm_module",
    "store_maps",
]


_SINUSOIDAL: dict[str, Literal["in turns", "halves"]] = {"sinusoidal": "in turns", "sinusoidal-halves": "halves"}


def build_embeddings(settings: Embeddings, hidden_size: int, *, own_words: bool = True) -> TokenEmbeddings:
    positions = settings.positions
    normed = hidden_size if settings.norms_states else settings.size
    return TokenEmbeddings(
        settings.vocabulary_size,
        settings.size,
        positions=positions.rows,
        token_types=settings.token_types,
        padding_id=settings.padding_id,
        position_padding=positions.offset - 1 if positions.from_padding else None,
        norm=None if settings.norm is None else norm_module(settings.norm, normed),
        norms_states=settings.norms_states,
        dropout=settings.dropout,
        projected_size=hidden_size if settings.projection else None,
        axes=positions.axes,
        axis_sizes=positions.axis_sizes,
        sinusoidal=_SINUSOIDAL.get(positions.scheme, "no"),
        scale=settings.scale,
        own_words=own_words,
    )


def build_attention(hidden_size: int, layers: Sequence[Layer]) -> list[SelfAttention]:
    sets = {one.attention.weights: one for one in reversed(layers)}
    return [
        SelfAttention(
            hidden_size,
            layer.attention.heads,
            layer.attention.head_size,
            **_norms(layer, layer.norm_places[0], hidden_size, reads=layer.attention.heads > 0),
            global_projections=layer.attention.global_projections,
            **_relative(layer.attention),
            **_heads(layer.attention),
        )
        for _, layer in sorted(sets.items(), key=lambda item: item[0])
    ]


def build_cross_attention(hidden_size: int, layers: Sequence[Layer]) -> list[CrossAttention]:
    sets = {one.cross_attention.weights: (one, one.cross_attention) for one in reversed(layers) if one.cross_attention}
    return [
        CrossAttention(
            hidden_size,
            settings.heads,
            settings.head_size,
            **_norms(layer, layer.norm_places[0], hidden_size, reads=True),
            **_heads(settings),
        )
        for _, (layer, settings) in sorted(sets.items(), key=lambda item: item[0])
    ]


def build_distance_bias(hidden_size: int, layers: Sequence[Layer]) -> list[DistanceWeights | RelativeStates]:
    """The tables by distance, of numbers or of states, each once."""
    attentions = [one.attention for one in layers]
    sets = {one.distance_bias.weights: (one.heads, one.distance_bias) for one in attentions if one.distance_bias}
    return [_distances(hidden_size, *described) for _, described in sorted(sets.items(), key=lambda item: item[0])]


def _distances(
    hidden_size: int, heads: int, table: DistanceTable | RelativePositions
) -> DistanceWeights | RelativeStates:
    if isinstance(table, DistanceTable):
        return DistanceWeights(heads, table.distances, before=table.before, buckets=table.buckets)
    norm = None if table.norm is None else norm_module(table.norm, hidden_size)
    return RelativeStates(hidden_size, table.span, farthest=table.farthest, norm=norm, dropout=table.dropout)


def _relative(settings: Attention) -> dict[str, Any]:
    """What of attention states of distances ask for."""
    given = settings.distance_bias
    if not isinstance(given, RelativePositions):
        return {}
    return {"relative_terms": given.terms, "relative_maps": given.own_maps}


def _heads(settings: Attention) -> dict[str, Any]:
    """What attention to a text's own tokens and to other states are made of alike."""
    norm = settings.query_key_norm if settings.heads else None
    per_head = [None if norm is None else norm_module(norm, settings.head_size) for _ in ("query", "key")]
    return {
        "key_heads": settings.key_heads,
        "bias": settings.bias,
        "output_bias": settings.output_bias,
        "shared_query_key": settings.shared_query_key,
        "query_norm": per_head[0],
        "key_norm": per_head[1],
    }


def _norms(layer: Layer, place: NormPlace, size: int, *, reads: bool) -> dict[str, Any]:
    """The norm of a part, and that of its output where it has two."""
    count = norm_count(place, reads=reads)
    made = [norm_module(layer.norm, size) if i < count else None for i in range(2)]
    return {"norm": made[0], "output_norm": made[1]}


def build_feed_forward(hidden_size: int, layers: Sequence[Layer]) -> list[FeedForwardNetwork]:
    sets = {one.feed_forward.weights: one for one in reversed(layers)}
    return [
        FeedForwardNetwork(
            hidden_size,
            layer.feed_forward.width,
            activation=layer.feed_forward.activation,
            **_norms(layer, layer.norm_places[1], hidden_size, reads=layer.feed_forward.width > 0),
            gated=layer.feed_forward.gated,
            bias=layer.feed_forward.bias,
        )
        for _, layer in sorted(sets.items(), key=lambda item: item[0])
    ]


def store_maps(model: nn.Module, architecture: Architecture) -> None:
    """Keep the weights of linear maps as the architecture says. Raises InputError for what is no map or named twice."""
    maps = {name: one for name, one in model.named_modules() if isinstance(one, Linear)}
    for i, stored in enumerate(architecture.storages):
        for name in stored.maps:
            if name not in maps:
                raise InputError(f"storages[{i}].maps has {quote(name)}; the model has no linear map of that name")
            if maps[name].storage != DENSE:
                raise InputError(f"storages[{i}].maps has {quote(name)}, whose storage was named before: name it once")
            maps[name].store(stored.storage)
