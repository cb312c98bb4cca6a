"""A model's modules, one for each weight set, as an architecture describes them."""

from torch import nn

from gossamer.layers import FeedForwardNetwork, SelfAttention, TokenEmbeddings, build_norm
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.bricks import Norm

__all__ = ["build_attention", "build_embeddings", "build_feed_forward", "norm_module"]


def norm_module(norm: Norm, size: int) -> nn.Module:
    return build_norm(size, kind=norm.kind, eps=norm.eps, bias=norm.bias, offset=norm.offset)


def build_embeddings(architecture: Architecture) -> TokenEmbeddings:
    settings = architecture.embeddings
    positions = settings.positions
    return TokenEmbeddings(
        settings.vocabulary_size,
        settings.size,
        positions=positions.rows,
        token_types=settings.token_types,
        padding_id=settings.padding_id,
        position_padding=positions.offset - 1 if positions.from_padding else None,
        norm=None if settings.norm is None else norm_module(settings.norm, settings.size),
        dropout=settings.dropout,
        projected_size=architecture.hidden_size if settings.projection else None,
        axes=positions.axes,
        sinusoidal=positions.scheme == "sinusoidal",
    )


def build_attention(architecture: Architecture) -> list[SelfAttention]:
    sets = {one.attention.weights: one for one in reversed(architecture.layers)}
    return [_attention(architecture.hidden_size, layer) for _, layer in sorted(sets.items(), key=lambda item: item[0])]


def _attention(hidden_size: int, layer: Layer) -> SelfAttention:
    settings = layer.attention
    per_head = [
        None if settings.query_key_norm is None else norm_module(settings.query_key_norm, settings.head_size)
        for _ in ("query", "key")
    ]
    return SelfAttention(
        hidden_size,
        settings.heads,
        settings.head_size,
        norm=norm_module(layer.norm, hidden_size),
        global_projections=settings.global_projections,
        key_heads=settings.key_heads,
        bias=settings.bias,
        output_bias=settings.output_bias,
        query_norm=per_head[0],
        key_norm=per_head[1],
    )


def build_feed_forward(architecture: Architecture) -> list[FeedForwardNetwork]:
    sets = {one.feed_forward.weights: one for one in reversed(architecture.layers)}
    return [
        FeedForwardNetwork(
            architecture.hidden_size,
            layer.feed_forward.width,
            activation=layer.feed_forward.activation,
            norm=norm_module(layer.norm, architecture.hidden_size),
            gated=layer.feed_forward.gated,
            bias=layer.feed_forward.bias,
        )
        for _, layer in sorted(sets.items(), key=lambda item: item[0])
    ]
