"""The inner step of blocked attention: plain attention of tiles, with the log-sum-exp, forward and backward.

This is the one seam to torch's fused CPU attention with log-sum-exp, a private operator: where it does not exist, or
cannot do what is asked (dropout, other devices and dtypes, a gradient for the log-sum-exp), plain operations stand in.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MASKED", "NOTHING_SEEN", "backward_tiles", "forward_tiles", "has_fused"]

MASKED = -1e30
"""Added to a forbidden score. Finite, so that a row of nothing but forbidden keys stays free of NaN."""

NOTHING_SEEN = -1e29
"""A row whose log-sum-exp lies below this saw nothing."""

_FUSED = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_FUSED_BACKWARD = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


def has_fused(x: Tensor) -> bool:
    """Whether torch's fused CPU attention with log-sum-exp serves this tensor."""
    available = _FUSED is not None and _FUSED_BACKWARD is not None
    return available and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def forward_tiles(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, keep: Tensor | None, rate: float
) -> tuple[Tensor, Tensor]:
    """Attention of q [heads, tiles, rows, size] over k, v [heads, tiles, keys, size].

    `mask` [1, tiles or 1, rows, keys] is added to the scores; `keep` says which probabilities dropout leaves.
    Returns the output like q and the log-sum-exp [heads, tiles, rows] in float32 (float64 for float64).
    """
    if keep is None and has_fused(q):
        return _FUSED(q, k, v, attn_mask=mask, scale=scale)
    wide = _wide(q)
    scores = _scores(q, k, mask, scale, wide)
    lse = scores.logsumexp(-1)
    probabilities = (scores - lse[..., None]).exp()
    if keep is not None:
        probabilities = probabilities * keep / (1 - rate)
    return (probabilities @ v.to(wide)).to(q.dtype), lse


def backward_tiles(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_lse: Tensor | None,
    mask: Tensor | None,
    scale: float,
    keep: Tensor | None,
    rate: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v of the tiles, given the *final* output and log-sum-exp of the rows (Liu et al. 2023, ring attention).

    Rows whose `lse` is huge take part with probability 0.
    """
    if keep is None and grad_lse is None and has_fused(q):
        return _FUSED_BACKWARD(grad_out, q, k, v, out, lse, 0.0, False, attn_mask=mask, scale=scale)
    wide = _wide(q)
    probabilities = (_scores(q, k, mask, scale, wide) - lse[..., None]).exp()
    grad_out, q, k, v, out = (x.to(wide) for x in (grad_out, q, k, v, out))
    grad_probabilities = grad_out @ v.mT
    dropped = probabilities
    if keep is not None:
        grad_probabilities = grad_probabilities * keep / (1 - rate)
        dropped = probabilities * keep / (1 - rate)
    row = (grad_out * out).sum(-1)
    if grad_lse is not None:
        row = row - grad_lse
    grad_scores = probabilities * (grad_probabilities - row[..., None]) * scale
    return grad_scores @ k, grad_scores.mT @ q, dropped.mT @ grad_out


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, scale: float, wide: torch.dtype) -> Tensor:
    scores = q.to(wide) @ k.to(wide).mT * scale
    return scores if mask is None else scores + mask


def _wide(q: Tensor) -> torch.dtype:
    return q.dtype if q.dtype.itemsize >= 4 else torch.float32
