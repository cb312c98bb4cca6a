"""Attention under a pattern, computed several ways that agree."""

from gossamer.kernels.attend import attend, explain
from gossamer.kernels.merge import merge
from gossamer.kernels.select import BACKENDS, Explanation
from gossamer.kernels.varlen import segments_from_cu_seqlens
from gossamer.kernels.weights import TopKeys, attention_rows, top_keys

__all__ = [
    "BACKENDS",
    "Explanation",
    "TopKeys",
    "attend",
    "attention_rows",
    "explain",
    "merge",
    "segments_from_cu_seqlens",
    "top_keys",
]
