"""Gradients of attention weights: of w = softmax(s), ds_j = w_j (dw_j - sum_i w_i dw_i) over all keys that a row sees.

A pair of weight 0 gets no gradient, and q and k are read with 0 for NaN: who sees NaN has it in w, nobody else does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.kernels.inputs import Inputs
from gossamer.kernels.precision import wide
from gossamer.kernels.weights.row_sums import RowSum, to_weights
from gossamer.kernels.weights.walk import BLOCK_SCORES, CHUNK, walk

__all__ = ["add_rows_gradients", "add_top_keys_gradients"]


def add_rows_gradients(
    inputs: Inputs, batch: int, chosen: Tensor, weights: Tensor, grad: Tensor, grad_q: Tensor, grad_k: Tensor
) -> None:
    """Of all weights of one text's chosen queries [rows], [heads, rows, keys].

    Adds to grad_q [heads, queries, size] and grad_k [key heads, keys, size], which are in float32 or wider.
    """
    key_heads, keys, size = grad_k.shape
    sharing = len(grad_q) // key_heads * len(chosen)
    scores = (grad - (weights * grad).sum(-1, keepdim=True)).mul_(weights).mul_(inputs.scale)
    scores.masked_fill_(weights == 0, 0)
    # The heads that share keys, one after the other.
    scores = scores.reshape(key_heads, sharing, keys)
    rows = _finite(inputs.q[batch][:, chosen]).reshape(key_heads, sharing, size)
    grad_q.index_add_(1, chosen, (scores @ _finite(inputs.k[batch])).view(len(grad_q), len(chosen), size))
    grad_k.add_(scores.mT @ rows)


def add_top_keys_gradients(
    inputs: Inputs, batch: int, chosen: Tensor, total: RowSum,
    weights: Tensor, keys: Tensor, grad: Tensor, grad_q: Tensor, grad_k: Tensor,
) -> None:  # fmt: skip
    """Of the weights [heads, rows, count] of `keys`, beside which all that is seen, `total`, takes part.

    What it is added to, and the rest, as in `add_rows_gradients`.
    """
    shown = weights * grad
    every = shown.sum(-1)
    for block in walk(inputs, batch, chosen):
        to_weights(block.scores, total.at(block.heads, block.rows))
        hidden = block.scores == 0
        scores = block.scores.mul_(every[block.heads][:, block.rows, None]).mul_(-inputs.scale).masked_fill_(hidden, 0)
        shared, queries = _key_heads(inputs, block.heads), chosen[block.rows]
        k = _finite(inputs.k[batch][shared[:, None], block.keys])
        q = _finite(inputs.q[batch, block.heads][:, queries])
        grad_q[block.heads].index_add_(1, queries, scores @ k)
        grad_k.index_put_((shared[:, None], block.keys), scores.mT @ q, accumulate=True)
    few = max(1, min(CHUNK, BLOCK_SCORES // (keys.shape[-1] * inputs.q.shape[-1])))
    for head in range(len(shown)):
        for rows in torch.arange(len(chosen), device=chosen.device).split(few):
            _add_pairs(inputs, batch, head, chosen[rows], keys[head, rows], shown[head, rows], grad_q, grad_k)


def _add_pairs(
    inputs: Inputs, batch: int, head: int, queries: Tensor, keys: Tensor, scores: Tensor, grad_q: Tensor, grad_k: Tensor
) -> None:
    """Of the scores [rows, count] of pairs of one head, 0 for those that are none (-1)."""
    shared, at = head // (inputs.q.shape[1] // inputs.k.shape[1]), keys.clamp(min=0)
    scores = scores[..., None] * inputs.scale
    q, k = _finite(inputs.q[batch, head][queries]), _finite(inputs.k[batch, shared][at])
    grad_q[head].index_add_(0, queries, (scores * k).sum(1))
    grad_k[shared].index_add_(0, at.flatten(), (scores * q[:, None]).flatten(0, 1))


def _key_heads(inputs: Inputs, heads: slice) -> Tensor:
    return torch.arange(heads.start, heads.stop, device=inputs.q.device) // (inputs.q.shape[1] // inputs.k.shape[1])


def _finite(x: Tensor) -> Tensor:
    return x.to(wide(x)).nan_to_num(0.0, 0.0, 0.0)
