"""The module of a norm that a description names."""

from gossamer.layers import LayerNorm, RMSNorm, build_norm
from gossamer.models.bricks import Norm

__all__ = ["norm_module"]


def norm_module(norm: Norm, size: int) -> LayerNorm | RMSNorm:
    """With fresh weights, which change nothing."""
    return build_norm(size, kind=norm.kind, eps=norm.eps, bias=norm.bias, offset=norm.offset)
