"""The weights of what attention adds to its scores by distance: a table of numbers, or states of distances."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.kernels.distance_bias import DistanceBias
from gossamer.kernels.ledger import Ledger
from gossamer.kernels.torch_state import is_intercepted
from gossamer.layers.norms import LayerNorm, RMSNorm

__all__ = ["DistanceStates", "DistanceWeights", "RelativeStates"]


class DistanceWeights(nn.Module):
    """`weight` [heads, distances]: of distance `-before`, key less query, first (Raffel et al. 2020, section 2.1).

    With `buckets` it is [heads, buckets], and distances have numbers as T5 deals them out. Numbers are 0 until somebody
    draws them.
    """

    def __init__(self, heads: int, distances: int, *, before: int, buckets: int | None = None) -> None:
        super().__init__()
        self.before, self.after, self.buckets = before, distances - 1 - before, buckets
        self.weight = nn.Parameter(torch.zeros(heads, buckets or distances))
        self._known: Int[Tensor, "distances"] | None = None

    def forward(self, positions: Int[Tensor, "#batch length"] | None = None) -> DistanceBias:
        """What `attend` adds for tokens at these positions, or at those that the pattern reads."""
        both = None if positions is None else (positions, positions)
        table: Tensor = self.weight
        if self.buckets is not None:
            table = table.index_select(1, self._dealt(table.device))
        return DistanceBias(table=table, before=self.before, positions=both)

    def _dealt(self, device: torch.device) -> Int[Tensor, "distances"]:
        """The bucket of each distance: reckoned once, since it takes as long as the attention of one token."""
        if torch.compiler.is_compiling() or is_intercepted():
            return self._deal(device)
        if self._known is None or self._known.device != device:
            with torch.inference_mode(False):
                self._known = self._deal(device)
        return self._known

    def _deal(self, device: torch.device) -> Int[Tensor, "distances"]:
        assert self.buckets is not None
        distances = torch.arange(-self.before, self.after + 1, device=device)
        return _buckets(distances, self.buckets, self.before, both_ways=self.after > 0)

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


@dataclass(frozen=True, kw_only=True)
class DistanceStates:
    """States of distances, [states, hidden], that a layer's own maps make keys and queries of.

    `rows` and `before` are those of `RelativeTerms`.
    """

    states: Float[Tensor, "states hidden"]
    rows: Int[Tensor, "distances"]
    before: int


class RelativeStates(nn.Module):
    """`states` [2 * span, hidden]: a state of each distance, query less key, from -span on (DeBERTa, section 3.1).

    Where there is a `farthest`, those from span / 2 on have one for a range that grows with the distance, the last one
    from `farthest` on (He et al. 2021, DeBERTaV3, arXiv 2111.09543, whose code calls it buckets). `norm` and `dropout`
    are of the states. They are 0 until somebody draws them.
    """

    def __init__(
        self, hidden_size: int, span: int, *, farthest: int | None, norm: LayerNorm | RMSNorm | None, dropout: float
    ) -> None:
        super().__init__()
        self.span, self.farthest, self.dropout = span, farthest, dropout
        self.norm = norm
        self.states = nn.Parameter(torch.zeros(2 * span, hidden_size))

    def forward(self, length: int) -> DistanceStates:
        """Those of all distances in a row of so many tokens."""
        read, rows = self._read(length)
        states = self.states[read]
        states = states if self.norm is None else self.norm(states)
        states = F.dropout(states, self.dropout, self.training)
        return DistanceStates(states=states, rows=rows.to(states.device), before=length - 1)

    def account(self, length: int, ledger: Ledger) -> DistanceStates:
        """What `forward` takes."""
        read, rows = self._read(length)
        states = ledger.view(self.states, read.stop - read.start, self.states.shape[1])
        states = states if self.norm is None else self.norm.account(states, ledger)
        return DistanceStates(states=ledger.dropout(states, self.dropout), rows=rows, before=length - 1)

    def extra_repr(self) -> str:
        dealt = "" if self.farthest is None else f", farthest={self.farthest}"
        return f"span={self.span}{dealt}"

    def _read(self, length: int) -> tuple[slice, Int[Tensor, "distances"]]:
        """Which states are read, and which of these is that of each distance, key less query, from 1 - length on."""
        apart = torch.arange(length - 1, -length, -1, device="cpu")
        if self.farthest is not None:
            apart = _ranges(apart, self.span // 2, self.farthest)
        rows = (apart + self.span).clamp(0, 2 * self.span - 1)
        if torch.compiler.is_compiling():
            return slice(0, 2 * self.span), rows
        read = slice(int(rows[-1]), int(rows[0]) + 1)
        return read, rows - read.start


def _ranges(apart: Int[Tensor, "distances"], exact: int, farthest: int) -> Int[Tensor, "distances"]:
    """Distances up to `exact` as they are, further ones by the number of their range, in either direction.

    In float32, as `transformers` reckons it: elsewhere a distance may come to lie in the next range.
    """
    far = apart.abs().clamp(min=exact)
    share = torch.log(far / exact) / torch.log(torch.tensor((farthest - 1) / exact))
    numbers = torch.ceil(share * (exact - 1)).long() + exact
    return torch.where(apart.abs() <= exact, apart, numbers * apart.sign())
