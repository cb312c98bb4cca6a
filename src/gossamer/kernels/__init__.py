"""Attention under a pattern, and products with weights, computed several ways that agree."""

from gossamer.kernels.activations import ACTIVATIONS
from gossamer.kernels.attend import attend, explain
from gossamer.kernels.backends import BACKENDS
from gossamer.kernels.linear import LinearExplanation, explain_linear, linear
from gossamer.kernels.merge import merge
from gossamer.kernels.select import Explanation
from gossamer.kernels.varlen import segments_from_cu_seqlens
from gossamer.kernels.weights import TopKeys, attention_rows, top_keys

__all__ = [
    "ACTIVATIONS",
    "BACKENDS",
    "Explanation",
    "LinearExplanation",
    "TopKeys",
    "attend",
    "attention_rows",
    "explain",
    "explain_linear",
    "linear",
    "merge",
    "segments_from_cu_seqlens",
    "top_keys",
]
