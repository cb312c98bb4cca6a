"""Attention of one new token a row, over keys that lie where they are kept.

Torch's own: the tiles of our kernels are made for many queries, and for one take 2 to 4 times as long, 10 with a mask.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gossamer.kernels.precision import bias_in

__all__ = ["attend_alone"]


def attend_alone(
    q: Float[Tensor, "batch heads 1 size"],
    keys: Float[Tensor, "batch key_heads keys size"],
    values: Float[Tensor, "batch key_heads keys size"],
    scale: float | None,
    *,
    mask: Bool[Tensor, "batch 1 1 keys"] | None = None,
    blind: Bool[Tensor, "batch 1 1 1"] | None = None,
    bias: Float[Tensor, "#batch heads 1 keys"] | None = None,
) -> Float[Tensor, "batch heads 1 size"]:
    """mask: True for what a row sees; blind: the rows that see nothing, which give zeros. bias: added to the scores."""
    # Query heads that share a key head are so many queries to torch.
    grouped = q.reshape(len(q), keys.shape[1], -1, q.shape[3])
    added = mask
    if bias is not None:
        added = bias_in(q.dtype, bias).reshape(len(bias), *grouped.shape[1:3], -1)
        added = added if mask is None else added.masked_fill(~mask, float("-inf"))
    out = scaled_dot_product_attention(grouped, keys, values, attn_mask=added, scale=scale).view(q.shape)
    return out if blind is None else out.masked_fill(blind, 0)
