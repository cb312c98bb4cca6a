"""Attention under a pattern, computed several ways that agree."""

from gossamer.kernels.attend import attend, explain
from gossamer.kernels.select import BACKENDS, Explanation
from gossamer.kernels.weights import TopKeys, attention_rows, top_keys

__all__ = ["BACKENDS", "Explanation", "TopKeys", "attend", "attention_rows", "explain", "top_keys"]
