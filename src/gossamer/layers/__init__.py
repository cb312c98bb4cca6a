"""The bricks of a model: embeddings, attention that has a pattern, feed-forward."""

from gossamer.layers.again import Moments
from gossamer.layers.attention import KeyValueCache, SelfAttention, TokenInfo, reading_seed
from gossamer.layers.constant import Constant
from gossamer.layers.cross_attention import CrossAttention, CrossKeyValueCache, OtherStates
from gossamer.layers.distance import DistanceStates, DistanceWeights, RelativeStates
from gossamer.layers.embeddings import TokenEmbeddings, count_positions
from gossamer.layers.feed_forward import FeedForwardNetwork
from gossamer.layers.linear import Linear
from gossamer.layers.masks import Masked
from gossamer.layers.multi_head import RelativeTerm
from gossamer.layers.norms import LayerNorm, RMSNorm, UnitNorm, build_norm
from gossamer.layers.residual import account_branch, account_residual, branch, in_slices, residual, residual_in_slices
from gossamer.layers.reversible import Streams, add_reversibly, with_all_of
from gossamer.layers.rotary import Rotation, rotation
from gossamer.layers.slices import Cut, cuts_of
from gossamer.layers.split import SequenceSplit, SharedCut
from gossamer.layers.storages import DENSE, LowRank, Storage, storage_from_dict

__all__ = [
    "DENSE",
    "Constant",
    "CrossAttention",
    "CrossKeyValueCache",
    "Cut",
    "DistanceStates",
    "DistanceWeights",
    "FeedForwardNetwork",
    "KeyValueCache",
    "LayerNorm",
    "Linear",
    "LowRank",
    "Masked",
    "Moments",
    "OtherStates",
    "RMSNorm",
    "RelativeStates",
    "RelativeTerm",
    "Rotation",
    "SelfAttention",
    "SequenceSplit",
    "SharedCut",
    "Storage",
    "Streams",
    "TokenEmbeddings",
    "TokenInfo",
    "UnitNorm",
    "account_branch",
    "account_residual",
    "add_reversibly",
    "branch",
    "build_norm",
    "count_positions",
    "cuts_of",
    "in_slices",
    "reading_seed",
    "residual",
    "residual_in_slices",
    "rotation",
    "storage_from_dict",
    "with_all_of",
]
