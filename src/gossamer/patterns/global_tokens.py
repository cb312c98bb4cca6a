"""A few flagged tokens see everybody and are seen by everybody."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.base import Pattern
from gossamer.patterns.grid import Grid
from gossamer.patterns.pieces import Band, Pieces
from gossamer.patterns.sums import offsets

__all__ = ["Global"]


@dataclass(frozen=True)
class Global(Pattern, kind="global"):
    """Query i sees key j when i or j is a flagged token (the `global_mask` of a model).

    Which tokens are flagged is part of the input, not of the pattern; padding is never flagged.
    Source: Longformer (Beltagy et al. 2020, arXiv 2004.05150), section 3.1, global attention.
    """

    sees_flags = True
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

    @property
    def period(self) -> int:
        return 1

    def pieces(self) -> Pieces:
        return Pieces(flagged=True)

    def pieces_with(self, window: Band) -> Pieces:
        return Pieces((window,), flagged=True)

    def near(self, at: Tensor, keys: Tensor, flags: Tensor | None = None, key_flags: Tensor | None = None) -> Tensor:
        if flags is None or key_flags is None:
            return torch.zeros_like(keys, dtype=torch.bool)
        return torch.ones_like(key_flags) if bool(flags.any()) else key_flags

    def _row_sums_joined(self, rest: Pattern, grid: Grid, values: Tensor) -> Tensor:
        """Everything for a flagged query; else the flagged keys and the rest's unflagged ones."""
        if grid.flags is None or grid.query_flags is None:
            return rest._row_sums(grid, values)
        flagged = (values * grid.flags).sum(-1, keepdim=True)
        others = flagged + rest._row_sums(grid, values * ~grid.flags)
        return torch.where(grid.query_flags, values.sum(-1, keepdim=True), others)

    def _row_sums(self, grid: Grid, values: Tensor) -> Tensor:
        if grid.flags is None or grid.query_flags is None:
            return values.new_zeros((*values.shape[:-1], grid.queries))
        flagged = (values * grid.flags).sum(-1, keepdim=True)
        return torch.where(grid.query_flags, values.sum(-1, keepdim=True), flagged)
