"""The inner step of blocked attention: plain attention of tiles, with the log-sum-exp, forward and backward.

This is the one seam to torch's fused CPU attention with log-sum-exp, a private operator: where it does not exist, or
cannot do what is asked (dropout, another device, float64, a gradient for the log-sum-exp), plain operations stand in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.kernels.torch_state import fused_attention, fused_attention_backward, has_fused_attention

__all__ = ["MASKED", "NOTHING_SEEN", "SKIPPED", "Rows", "backward_tiles", "forward_tiles", "has_fused"]

MASKED = -1e30
"""Added to a forbidden score. Finite, so that a row of nothing but forbidden keys stays free of NaN."""

NOTHING_SEEN = -1e29
"""A row whose log-sum-exp lies below this saw nothing."""

SKIPPED = 1e30
"""As a log-sum-exp in the backward pass: every probability of the row becomes 0."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What the backward pass knows of each row: its *final* output and log-sum-exp, and their gradients."""

    out: Tensor
    lse: Tensor
    grad_out: Tensor
    grad_lse: Tensor | None

    def map(self, view: Callable[[Tensor], Tensor]) -> Rows:
        return Rows(
            out=view(self.out),
            lse=view(self.lse),
            grad_out=view(self.grad_out),
            grad_lse=None if self.grad_lse is None else view(self.grad_lse),
        )

    def at(self, index: Any) -> Rows:
        return self.map(lambda x: x[index])


def has_fused(x: Tensor) -> bool:
    """Whether torch's fused CPU attention with log-sum-exp serves this tensor."""
    return has_fused_attention() and x.device.type == "cpu" and x.dtype == torch.float32


def forward_tiles(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, keep: Tensor | None, rate: float
) -> tuple[Tensor, Tensor]:
    """Attention of q [heads, tiles, rows, size] over k, v [heads, tiles, keys, size].

    `mask` [heads or 1, tiles or 1, rows, keys] is added to the scores; `keep` says which probabilities dropout leaves.
    Returns the output like q and the log-sum-exp [heads, tiles, rows].
    """
    if keep is None and has_fused(q):
        return fused_attention(q, k, v, mask, scale)
    scores = _scores(q, k, mask, scale)
    lse = scores.logsumexp(-1)
    probabilities = (scores - lse[..., None]).exp_()
    if keep is not None:
        probabilities = _dropped(probabilities, keep, rate)
    return probabilities @ v, lse


def backward_tiles(
    q: Tensor, k: Tensor, v: Tensor, rows: Rows, mask: Tensor | None, scale: float, keep: Tensor | None, rate: float,
    of_mask: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """Gradients of q, k, v of the tiles, given the final values of their rows (Liu et al. 2023, ring attention).

    With p = exp(score - lse) and dp = dout v^T, the scores' gradient is p (dp - rowsum(dout out) + dlse), the last one
    that is returned, with `of_mask`; rows whose `lse` is SKIPPED take part with p = 0.
    """
    if keep is None and rows.grad_lse is None and not of_mask and has_fused(q):
        return *fused_attention_backward(rows.grad_out, q, k, v, rows.out, rows.lse, mask, scale), None
    probabilities = (_scores(q, k, mask, scale) - rows.lse[..., None]).exp_()
    grad_probabilities = rows.grad_out @ v.mT
    dropped = probabilities
    if keep is not None:
        grad_probabilities = _dropped(grad_probabilities, keep, rate)
        dropped = _dropped(probabilities, keep, rate)
    row = (rows.grad_out * rows.out).sum(-1)
    if rows.grad_lse is not None:
        row = row - rows.grad_lse
    grad_scores = probabilities * (grad_probabilities - row[..., None])
    of_products = grad_scores * scale
    grads = of_products @ k, of_products.mT @ q, dropped.mT @ rows.grad_out
    return *grads, grad_scores if of_mask else None


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    scores = q @ k.mT * scale
    return scores if mask is None else scores + mask


def _dropped(x: Tensor, keep: Tensor, rate: float) -> Tensor:
    return (x * keep).mul_(1 / (1 - rate))
