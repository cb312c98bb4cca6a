"""The weights of a table by distance, which attention adds to its scores."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gossamer.kernels.distance_bias import DistanceBias
from gossamer.kernels.ledger import Ledger

__all__ = ["DistanceWeights"]


class DistanceWeights(nn.Module):
    """`weight` [heads, distances]: of distance `-before`, key less query, first (Raffel et al. 2020, section 2.1).

    Numbers are 0 until somebody draws them.
    """

    def __init__(self, heads: int, distances: int, *, before: int) -> None:
        super().__init__()
        self.before = before
        self.weight = nn.Parameter(torch.zeros(heads, distances))

    def forward(self, positions: Int[Tensor, "#batch length"] | None = None) -> DistanceBias:
        """What `attend` adds for tokens at these positions, or at those that the pattern reads."""
        both = None if positions is None else (positions, positions)
        return DistanceBias(table=self.weight, before=self.before, positions=both)

    def account(self, ledger: Ledger) -> Float[Tensor, "heads distances"]:
        """What `account_attention` reads: nothing is computed before `attend` has the pairs."""
        return self.weight

    def extra_repr(self) -> str:
        heads, distances = self.weight.shape
        return f"heads={heads}, before={self.before}, after={distances - 1 - self.before}"
