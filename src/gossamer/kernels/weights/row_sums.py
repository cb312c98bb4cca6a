"""Scores of rows summed up, part by part, and made weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NOTHING", "RowSum", "to_weights"]

NOTHING = float("-inf")
"""The score of a pair that is not seen."""


@dataclass(frozen=True)
class RowSum:
    """Log-sum-exp of each row, [heads, rows], as peak + rest: beside a peak of -1e9 the rest would be rounded away."""

    peak: Tensor
    rest: Tensor

    @classmethod
    def of_lse(cls, lse: Tensor) -> RowSum:
        return cls(lse, torch.zeros_like(lse))

    @classmethod
    def of_scores(cls, scores: Tensor) -> RowSum:
        """Of [heads, rows, keys]; rows that see nothing have a peak of -inf."""
        peak = scores.amax(-1) if scores.shape[-1] else scores.new_full(scores.shape[:-1], NOTHING)
        return cls(peak, (scores - peak.masked_fill(peak == NOTHING, 0)[..., None]).logsumexp(-1))

    def add(self, heads: slice, rows: Tensor, other: RowSum) -> None:
        """Take other scores of some rows in."""
        peak, rest = self.peak[heads][:, rows], self.rest[heads][:, rows]
        highest = torch.maximum(peak, other.peak)
        zero = highest.masked_fill(highest == NOTHING, 0)
        self.rest[heads, rows] = torch.logaddexp(peak - zero + rest, other.peak - zero + other.rest)
        self.peak[heads, rows] = highest

    def at(self, heads: slice, rows: Tensor) -> RowSum:
        return RowSum(self.peak[heads][:, rows], self.rest[heads][:, rows])


def to_weights(scores: Tensor, total: RowSum) -> None:
    """exp(score - log-sum-exp) in place, 0 for what is not seen."""
    hidden = scores == NOTHING
    scores.sub_(total.peak[..., None]).sub_(total.rest[..., None]).exp_().masked_fill_(hidden, 0)
