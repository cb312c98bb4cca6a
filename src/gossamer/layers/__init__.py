"""The bricks of a model: embeddings, attention that has a pattern, feed-forward."""

from gossamer.layers.attention import Masks, SelfAttention
from gossamer.layers.embeddings import TokenEmbeddings, count_positions
from gossamer.layers.feed_forward import ACTIVATIONS, FeedForwardNetwork

__all__ = ["ACTIVATIONS", "FeedForwardNetwork", "Masks", "SelfAttention", "TokenEmbeddings", "count_positions"]
