"""The bricks of a model: embeddings, attention that has a pattern, feed-forward."""

from gossamer.layers.attention import Masks, Memory, SelfAttention
from gossamer.layers.embeddings import TokenEmbeddings, count_positions
from gossamer.layers.feed_forward import FeedForwardNetwork
from gossamer.layers.linear import Linear
from gossamer.layers.residual import residual

__all__ = [
    "FeedForwardNetwork",
    "Linear",
    "Masks",
    "Memory",
    "SelfAttention",
    "TokenEmbeddings",
    "count_positions",
    "residual",
]
