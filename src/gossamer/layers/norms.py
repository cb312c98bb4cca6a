"""Norms of states: by mean and deviation, or by their root mean square."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.kernels.ledger import WIDE, Ledger

__all__ = ["LayerNorm", "RMSNorm", "UnitNorm", "build_norm"]


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm`: by mean and deviation. Source: Ba et al. 2016 (arXiv 1607.06450), section 3."""

    called = "layer norm"

    def account(self, x: Float[Tensor, "*rest size"], ledger: Ledger) -> Tensor:
        """What `forward` takes: its input is kept, a mean and a deviation a row; GPUs' autocast reads float32."""
        if ledger.autocast is not None and ledger.device != "cpu":
            x = ledger.to_dtype(x, torch.promote_types(x.dtype, torch.float32))
        ledger.count("norm", None, x.numel())
        return ledger.operation(x.shape, x.dtype, (x, *self.parameters()), saves=(x, _statistics(x, 2, ledger)))


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + eps) * (offset + weight)`, computed in float32 at least.

    Gemma's offset is 1; fresh weights multiply by 1. Source: Zhang and Sennrich 2019 (arXiv 1910.07467), section 4.
    """

    called = "RMS norm"

    def __init__(self, size: int, *, eps: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), 1.0 - offset))
        self.eps = eps
        self.offset = offset

    def forward(self, x: Float[Tensor, "*rest size"]) -> Float[Tensor, "*rest size"]:
        weight = self.weight + self.offset if self.offset else self.weight
        # Under autocast a product gives half precision; torch warns where the weight is of another dtype.
        wide = x.to(torch.promote_types(x.dtype, weight.dtype))
        return F.rms_norm(wide, self.weight.shape, weight, self.eps).to(x.dtype)

    def account(self, x: Float[Tensor, "*rest size"], ledger: Ledger) -> Tensor:
        """What `forward` takes: in several steps, of which the one before the weight is kept for it, too."""
        ledger.count("norm", None, x.numel())
        wide = ledger.to_dtype(x, torch.promote_types(x.dtype, torch.float32))
        before_weight = [ledger.memory(wide.nbytes)] if self.weight.requires_grad else []
        saves = (wide, _statistics(x, 1, ledger), *before_weight) if x.requires_grad else before_weight
        return ledger.operation(x.shape, x.dtype, (wide, self.weight), saves=saves, backward_bytes=wide.nbytes)


class UnitNorm(nn.Module):
    """`x / sqrt(mean(x^2) + 1e-6)`, without weights: of what is left the direction alone counts."""

    called = "unit norm"
    eps = 1e-6

    def forward(self, x: Float[Tensor, "*rest size"]) -> Float[Tensor, "*rest size"]:
        return F.rms_norm(x, x.shape[-1:], eps=self.eps)

    def account(self, x: Float[Tensor, "*rest size"], ledger: Ledger) -> Tensor:
        """What `forward` takes."""
        ledger.count("norm", None, x.numel())
        return ledger.operation(x.shape, x.dtype, (x,), saves=(x, _statistics(x, 1, ledger)))


def _statistics(x: Tensor, count: int, ledger: Ledger) -> Tensor:
    """So many numbers a row."""
    return ledger.memory(count * WIDE * (x.numel() // x.shape[-1]))


def build_norm(
    size: int, *, kind: Literal["layer", "rms"], eps: float, bias: bool, offset: float
) -> LayerNorm | RMSNorm:
    """The module of a norm with fresh weights, which change nothing."""
    return RMSNorm(size, eps=eps, offset=offset) if kind == "rms" else LayerNorm(size, eps=eps, bias=bias)
