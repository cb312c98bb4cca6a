"""Plain metric functions: sequences or tensors in; values out, with standard errors or intervals where means are."""

from gossamer.metrics.answers import answer_f1, exact_match
from gossamer.metrics.correlation import pearson, spearman
from gossamer.metrics.entities import entity_f1
from gossamer.metrics.estimate import Estimate, estimate_mean
from gossamer.metrics.generated import bleu, chrf, rouge
from gossamer.metrics.labels import accuracy, f1_score, matthews
from gossamer.metrics.language import bits_per_byte, bits_per_token, perplexity
from gossamer.metrics.paired import PairedDifference, paired_difference
from gossamer.metrics.regression import RidgeResult, ridge_cross_validated
from gossamer.metrics.retrieval import mean_reciprocal_rank, ndcg_at, recall_at, retrieval_ranks

__all__ = [
    "Estimate",
    "PairedDifference",
    "RidgeResult",
    "accuracy",
    "answer_f1",
    "bits_per_byte",
    "bits_per_token",
    "bleu",
    "chrf",
    "entity_f1",
    "estimate_mean",
    "exact_match",
    "f1_score",
    "matthews",
    "mean_reciprocal_rank",
    "ndcg_at",
    "paired_difference",
    "pearson",
    "perplexity",
    "recall_at",
    "retrieval_ranks",
    "ridge_cross_validated",
    "rouge",
    "spearman",
]
