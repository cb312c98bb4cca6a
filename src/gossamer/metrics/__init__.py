"""Plain metric functions: tensors in, values with standard errors out."""

from gossamer.metrics.estimate import Estimate, estimate_mean
from gossamer.metrics.language import bits_per_byte, bits_per_token, perplexity
from gossamer.metrics.regression import RidgeResult, ridge_cross_validated, spearman
from gossamer.metrics.retrieval import mean_reciprocal_rank, recall_at, retrieval_ranks

__all__ = [
    "Estimate",
    "RidgeResult",
    "bits_per_byte",
    "bits_per_token",
    "estimate_mean",
    "mean_reciprocal_rank",
    "perplexity",
    "recall_at",
    "retrieval_ranks",
    "ridge_cross_validated",
    "spearman",
]
