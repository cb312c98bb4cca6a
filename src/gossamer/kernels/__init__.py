"""Attention under a pattern, computed several ways that agree."""

from gossamer.kernels.attend import attend, explain
from gossamer.kernels.select import BACKENDS, Explanation

__all__ = ["BACKENDS", "Explanation", "attend", "explain"]
