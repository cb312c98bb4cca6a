"""A few flagged tokens see everybody and are seen by everybody."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.base import Pattern
from gossamer.patterns.grid import Grid
from gossamer.patterns.sums import offsets
from gossamer.patterns.window import Window

__all__ = ["Global"]


@dataclass(frozen=True)
class Global(Pattern, kind="global"):
    """Query i sees key j when i or j is a flagged token (the `global_mask` of a model).

    Which tokens are flagged is part of the input, not of the pattern; padding is never flagged.
    Source: Longformer (Beltagy et al. 2020, arXiv 2004.05150), section 3.1, global attention.
    """

    _rank = 100

    @property
    def causal(self) -> bool:
        return False

    def allowed(
        self,
        query_positions: Tensor,
        key_positions: Tensor,
        query_flags: Tensor | None = None,
        key_flags: Tensor | None = None,
    ) -> Tensor:
        seen = torch.zeros_like(offsets(query_positions, key_positions), dtype=torch.bool)
        if query_flags is not None:
            seen = seen | query_flags[..., :, None]
        return seen if key_flags is None else seen | key_flags[..., None, :]

    def covers(self, queries: int, keys: int, query_start: int = 0) -> bool:
        return queries == 0 or keys == 0

    def __str__(self) -> str:
        return "global"

    def _exact_with(self, other: Pattern) -> bool:
        return isinstance(other, Window)

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        if grid.flags is None or grid.query_flags is None:
            return values.new_zeros((*values.shape[:-1], grid.queries))
        flagged = (values * grid.flags).sum(-1, keepdim=True)
        return torch.where(grid.query_flags, values.sum(-1, keepdim=True), flagged)
