"""The bricks of a model: embeddings, attention that has a pattern, feed-forward."""

from gossamer.layers.attention import KeyValueCache, SelfAttention, TokenInfo
from gossamer.layers.cross_attention import CrossAttention, CrossKeyValueCache, OtherStates
from gossamer.layers.embeddings import TokenEmbeddings, count_positions
from gossamer.layers.feed_forward import FeedForwardNetwork
from gossamer.layers.linear import Linear
from gossamer.layers.norms import RMSNorm, build_norm
from gossamer.layers.residual import residual
from gossamer.layers.rotary import Rotation, rotation

__all__ = [
    "CrossAttention",
    "CrossKeyValueCache",
    "FeedForwardNetwork",
    "KeyValueCache",
    "Linear",
    "OtherStates",
    "RMSNorm",
    "Rotation",
    "SelfAttention",
    "TokenEmbeddings",
    "TokenInfo",
    "build_norm",
    "count_positions",
    "residual",
    "rotation",
]
