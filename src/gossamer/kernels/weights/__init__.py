"""Attention weights on demand, from the saved log-sum-exp: chosen rows, and the keys that count most to a query."""

from gossamer.kernels.weights.on_demand import (
    Rows,
    TopKeys,
    attention_rows,
    check_count,
    choose_rows,
    refuse_unshown,
    top_keys,
)
from gossamer.kernels.weights.sums import Bins, WeightSums, weight_sums

__all__ = [
    "Bins",
    "Rows",
    "TopKeys",
    "WeightSums",
    "attention_rows",
    "check_count",
    "choose_rows",
    "refuse_unshown",
    "top_keys",
    "weight_sums",
]
