"""Numbers added to the scores by how far apart query and key stand: a table by distance, or states of distances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.kernels.precision import wide
from gossamer.kernels.storage import check_tensor

__all__ = ["DistanceBias", "RelativeTerms", "TableByDistance", "read_distance_bias"]

Scores = Float[Tensor, "#*batch heads queries keys"]


@dataclass(frozen=True, kw_only=True)
class DistanceBias:
    """`table` [heads, before + after + 1]: what a head adds to the score of a key by its distance, key less query.

    Column `before` is of distance 0; keys further off than `before` or `after` have the columns at the ends.
    `positions` [batch or 1, tokens] of the queries and of the keys are what distances are of, where that is not what
    the pattern reads. Source: Raffel et al. 2020 (T5, arXiv 1910.10683), section 2.1, with one column a distance.
    """

    called: ClassVar[str] = "table by distance"
    reads_states: ClassVar[bool] = False

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

    def added(self, q: Tensor, k: Tensor, scale: float, q_positions: Tensor, k_positions: Tensor) -> Scores:
        """What is added to the scores of queries [..., heads, queries, size], whose own numbers say nothing here."""
        return self.at(q_positions, k_positions).movedim(0, -3)

    def of_heads(self, heads: slice) -> DistanceBias:
        """What it adds to the scores of these heads."""
        return replace(self, table=self.table[heads])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What may learn."""
        return (self.table,)

    def detached(self) -> DistanceBias:
        """The numbers as they are now, whatever is learned later."""
        return replace(self, table=self.table.detach().clone())


@dataclass(frozen=True, kw_only=True)
class RelativeTerms:
    """States of distances, with which content is compared: `q Kr^T + k Qr^T` is added to `q k^T` before the scale.

    `keys` [heads, states, head_size] is Kr, which a query meets ("content to position"), `queries` Qr, which a key
    meets ("position to content"); None: without this term. `rows` [before + after + 1] names the state of each
    distance, key less query, that of distance 0 in column `before`; further ones have those at the ends. `positions`
    as of a `DistanceBias`. Source: He et al. 2021 (DeBERTa, arXiv 2006.03654), section 3.1, whose distances are query
    less key. No state is ever there for each pair: products with all states are, [heads, queries, states].
    """

    called: ClassVar[str] = "states of distances"
    reads_states: ClassVar[bool] = True

    keys: Float[Tensor, "heads states size"] | None
    queries: Float[Tensor, "heads states size"] | None
    rows: Int[Tensor, "distances"]
    before: int
    positions: tuple[Int[Tensor, "#batch queries"], Int[Tensor, "#batch keys"]] | None = None

    def added(self, q: Tensor, k: Tensor, scale: float, q_positions: Tensor, k_positions: Tensor) -> Scores:
        """What is added to the scores of q [..., heads, queries, size] and as many heads k, in float32 or wider."""
        distances = k_positions[..., None, :] - q_positions[..., :, None]
        rows = self.rows[distances.clamp(-self.before, self.rows.shape[0] - 1 - self.before) + self.before]
        rows = rows[..., None, :, :]  # of all heads
        terms = []
        if self.keys is not None:
            terms.append(_met(q, self.keys, scale, rows))
        if self.queries is not None:
            terms.append(_met(k, self.queries, scale, rows.mT).mT)
        total = terms[0]
        return total if len(terms) == 1 else total + terms[1]

    def of_heads(self, heads: slice) -> RelativeTerms:
        """What it adds to the scores of these heads."""
        keys, queries = (None if x is None else x[heads] for x in (self.keys, self.queries))
        return replace(self, keys=keys, queries=queries)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What may learn."""
        return tuple(x for x in (self.keys, self.queries) if x is not None)

    def detached(self) -> RelativeTerms:
        """The numbers as they are now, whatever is learned later."""
        keys, queries = (None if x is None else x.detach().clone() for x in (self.keys, self.queries))
        return replace(self, keys=keys, queries=queries)


TableByDistance = tuple[Tensor, int] | DistanceBias | RelativeTerms
"""A table [heads, before + after + 1] with its column of distance 0, or what is one already."""


def read_distance_bias(given: TableByDistance | None, q: Tensor) -> DistanceBias | RelativeTerms | None:
    """What a call is given, as a value; InputError for what adds nothing by distance to the scores of q."""
    if given is None or isinstance(given, DistanceBias | RelativeTerms):
        return given
    if not isinstance(given, tuple) or len(given) != 2:
        raise InputError(
            f"distance_bias is {quote(given)}; it must be a pair (table, before): a tensor [heads, before + after + 1] "
            "and the number of its column for distance 0"
        )
    table, before = given
    check_tensor("the table of distance_bias", table)
    if table.ndim != 2 or table.shape[0] != q.shape[1] or table.shape[1] == 0:
        raise InputError(
            f"the table of distance_bias has shape {list(table.shape)}; it must be [heads, before + after + 1], here "
            f"of {q.shape[1]} heads"
        )
    if not table.dtype.is_floating_point or table.device != q.device:
        raise InputError(
            f"the table of distance_bias is {table.dtype} on {table.device}; it must be floating-point, on {q.device}"
        )
    if not isinstance(before, int | torch.SymInt) or isinstance(before, bool) or not 0 <= before < table.shape[1]:
        raise InputError(
            f"before, of distance_bias, is {quote(before)}; it must be the number of the table's column for distance "
            f"0, from 0 to {table.shape[1] - 1}"
        )
    return DistanceBias(table=table, before=before)


def _met(x: Tensor, states: Tensor, scale: float, rows: Tensor) -> Tensor:
    """Products of x [..., heads, tokens, size] and the states [heads, states, size] that `rows` names of each pair."""
    dtype = torch.promote_types(wide(x), states.dtype)
    products = (x.to(dtype) * scale) @ states.to(dtype).mT
    return products.gather(-1, rows.expand(*products.shape[:-1], rows.shape[-1]))
