"""A model's modules, one for each weight set, as an architecture describes them."""

from gossamer.layers import FeedForwardNetwork, SelfAttention, TokenEmbeddings
from gossamer.models.architecture import Architecture

__all__ = ["build_attention", "build_embeddings", "build_feed_forward"]


def build_embeddings(architecture: Architecture) -> TokenEmbeddings:
    settings = architecture.embeddings
    positions = settings.positions
    return TokenEmbeddings(
        settings.vocabulary_size,
        settings.size,
        positions=positions.offset + positions.length,
        token_types=settings.token_types,
        padding_id=settings.padding_id,
        position_padding=positions.offset - 1 if positions.from_padding else None,
        norm_eps=settings.norm_eps if settings.norm else None,
        dropout=settings.dropout,
        projected_size=architecture.hidden_size if settings.projection else None,
        axes=positions.axes,
    )


def build_attention(architecture: Architecture) -> list[SelfAttention]:
    sets = {one.attention.weights: one for one in reversed(architecture.layers)}
    return [
        SelfAttention(
            architecture.hidden_size,
            layer.attention.heads,
            layer.attention.head_size,
            norm_eps=layer.norm_eps,
            global_projections=layer.attention.global_projections,
        )
        for _, layer in sorted(sets.items(), key=lambda item: item[0])
    ]


def build_feed_forward(architecture: Architecture) -> list[FeedForwardNetwork]:
    sets = {one.feed_forward.weights: one for one in reversed(architecture.layers)}
    return [
        FeedForwardNetwork(
            architecture.hidden_size,
            layer.feed_forward.width,
            activation=layer.feed_forward.activation,
            norm_eps=layer.norm_eps,
        )
        for _, layer in sorted(sets.items(), key=lambda item: item[0])
    ]
