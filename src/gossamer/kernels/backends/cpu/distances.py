"""A table by distance as the kernel reads it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.backends.cpu.c_call import CDistances
from gossamer.kernels.backends.cpu.rows import MOST
from gossamer.kernels.operator import Arguments
from gossamer.kernels.precision import bias_in

__all__ = ["Distances"]

Positions = Int[Tensor, "batch rows"]


@dataclass(frozen=True, kw_only=True)
class Distances:
    """The table in float32, where tokens stand if not at their index, and what gathers the table's gradient."""

    table: Float[Tensor, "heads distances"]
    before: int
    query_start: int
    positions: tuple[Positions, Positions] | None
    gradient: Float[Tensor, "heads distances"] | None

    @classmethod
    def of(cls, call: Arguments, *, learns: bool = False) -> Distances | None:
        """Of a call; None where it has no table. Raises InputError for positions too far apart."""
        if call.table is None:
            return None
        table = bias_in(torch.float32, call.table).contiguous()
        of_queries, of_keys = call.queries.bias_positions, call.keys.bias_positions
        return cls(
            table=table, before=call.before, query_start=call.query_start,
            positions=None if of_queries is None or of_keys is None else _counted(of_queries, of_keys),
            gradient=torch.zeros_like(table) if learns else None,
        )  # fmt: skip

    def from_head(self, head: int) -> CDistances:
        """For heads from this one on."""
        columns = self.table.shape[1]
        of_head = head * columns * self.table.itemsize
        gradient = None if self.gradient is None else self.gradient.data_ptr() + of_head
        queries = keys = None
        strides = [0, 0]
        if self.positions is not None:
            queries, keys = (x.data_ptr() for x in self.positions)
            strides = [x.stride(0) for x in self.positions]
        return CDistances(
            self.table.data_ptr() + of_head, columns, self.before, queries, keys, *strides, self.query_start, gradient
        )


def _counted(of_queries: Positions, of_keys: Positions) -> tuple[Positions, Positions]:
    """From the least of them, as 32-bit numbers."""
    together = torch.cat([of_queries, of_keys], 1)
    least, most = (int(together.min()), int(together.max())) if together.numel() else (0, 0)
    if most - least > MOST:
        raise InputError(f"positions reach from {least} to {most}; the CPU kernel takes at most {MOST} between any two")
    return (of_queries - least).int().contiguous(), (of_keys - least).int().contiguous()
