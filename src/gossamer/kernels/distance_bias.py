"""Numbers added to the scores by how far apart query and key stand: a table by distance."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["DistanceBias"]


@dataclass(frozen=True, kw_only=True)
class DistanceBias:
    """`table` [heads, before + after + 1]: what a head adds to the score of a key by its distance, key less query.

    Column `before` is of distance 0; keys further off than `before` or `after` have the columns at the ends.
    `positions` [batch or 1, tokens] of the queries and of the keys are what distances are of, where that is not what
    the pattern reads. Source: Raffel et al. 2020 (T5, arXiv 1910.10683), section 2.1, with one column a distance.
    """

    table: Float[Tensor, "heads distances"]
    before: int
    positions: tuple[Int[Tensor, "#batch queries"], Int[Tensor, "#batch keys"]] | None = None

    def at(
        self, q_positions: Int[Tensor, "*#rest queries"], k_positions: Int[Tensor, "*#rest keys"]
    ) -> Float[Tensor, "heads *rest queries keys"]:
        """What is added to the scores."""
        distances = k_positions[..., None, :] - q_positions[..., :, None]
        columns = distances.clamp(-self.before, self.table.shape[1] - 1 - self.before) + self.before
        return self.table.index_select(1, columns.flatten()).unflatten(1, columns.shape)
