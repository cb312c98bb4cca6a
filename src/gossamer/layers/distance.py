"""The weights of a table by distance, which attention adds to its scores."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gossamer.kernels.distance_bias import DistanceBias
from gossamer.kernels.ledger import Ledger

__all__ = ["DistanceWeights"]


class DistanceWeights(nn.Module):
    """`weight` [heads, distances]: of distance `-before`, key less query, first (Raffel et al. 2020, section 2.1).

    With `buckets` it is [heads, buckets], and distances have numbers as T5 deals them out. Numbers are 0 until somebody
    draws them.
    """

    def __init__(self, heads: int, distances: int, *, before: int, buckets: int | None = None) -> None:
        super().__init__()
        self.before, self.after, self.buckets = before, distances - 1 - before, buckets
        self.weight = nn.Parameter(torch.zeros(heads, buckets or distances))

    def forward(self, positions: Int[Tensor, "#batch length"] | None = None) -> DistanceBias:
        """What `attend` adds for tokens at these positions, or at those that the pattern reads."""
        both = None if positions is None else (positions, positions)
        table: Tensor = self.weight
        if self.buckets is not None:
            distances = torch.arange(-self.before, self.after + 1, device=table.device)
            table = table.index_select(1, _buckets(distances, self.buckets, self.before, both_ways=self.after > 0))
        return DistanceBias(table=table, before=self.before, positions=both)

    def account(self, ledger: Ledger) -> Float[Tensor, "heads distances"]:
        """What `account_attention` reads: nothing is computed before `attend` has the pairs."""
        if self.buckets is None:
            return self.weight
        columns = self.before + self.after + 1
        return ledger.operation((len(self.weight), columns), self.weight.dtype, (self.weight,))

    def extra_repr(self) -> str:
        dealt = "" if self.buckets is None else f", buckets={self.buckets}"
        return f"heads={len(self.weight)}, before={self.before}, after={self.after}{dealt}"


def _buckets(
    distances: Int[Tensor, "distances"], buckets: int, farthest: int, *, both_ways: bool
) -> Int[Tensor, "distances"]:
    """Which of so many numbers each distance, key less query, has; from `farthest` on all have the last one.

    In float32, as T5 and `transformers` reckon it: elsewhere a distance may come to lie in the next bucket.
    """
    side = buckets // 2 if both_ways else buckets
    behind = (distances > 0).long() * side if both_ways else 0
    far = distances.abs() if both_ways else -distances.clamp(max=0)
    exact = side // 2
    grown = torch.log(far.clamp(min=1).float() / exact) / math.log(farthest / exact) * (side - exact)
    return behind + torch.where(far < exact, far, (exact + grown.long()).clamp(max=side - 1))
