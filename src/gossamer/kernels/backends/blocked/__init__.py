"""Attention in linear memory: the pieces of a pattern, tile by tile, on torch's own fused attention."""

from gossamer.kernels.backends.blocked.attention import blocked
from gossamer.kernels.backends.blocked.backend import BLOCKED

__all__ = ["BLOCKED", "blocked"]
