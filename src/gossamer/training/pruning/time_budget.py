"""Which units are kept of several structures at once, so that the model takes no more than a share of its time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.training.pruning.choice import keep_highest, number_kept, ranked_together
from gossamer.training.pruning.time_table import TimeTable
from gossamer.training.pruning.units import Units

__all__ = ["TIMED", "TimeBudget"]

TIMED = ("heads", "neurons", "layers")
"""Structures of which each unit that goes brings time."""
_FINE = 2**48
"""Shares that are told apart: more than those at which one unit more is kept of any that are ranked together."""


@dataclass(frozen=True, kw_only=True)
class TimeBudget:
    """What the units that are kept cost. units: of each structure; scope: what is ranked together."""

    table: TimeTable
    units: Sequence[Sequence[Units]]
    scope: str

    def check(self, latency: float) -> None:
        """InputError for a share of the time that cannot be had, whatever the scores."""
        least = self._least()
        if latency < least:
            raise InputError(
                f"latency is {quote(latency)}; what has to stay of the model takes up to {least:.1%} of its time: give "
                f"{math.ceil(100 * least) / 100} or more"
            )

    def share_of(self, counts: Sequence[Sequence[int]]) -> float:
        """The share of the whole model's time with so many units of each map of each structure."""
        pairs = [pair for some in zip(self.units, counts, strict=True) for pair in zip(*some, strict=True)]
        return self.table.milliseconds({one.part: (count, one.number) for one, count in pairs}) / (
            self.table.milliseconds({})
        )

    def masks(self, scores: Sequence[Sequence[Float[Tensor, "down beside"]]], most: float) -> list[list[Tensor]]:
        """The masks of each structure's maps with the largest share of units that takes at most this share of the time.

        It is one share for all structures, and never so low that nothing is left of what is ranked together.
        """
        share = self._largest_share(scores, most)
        return [keep_highest(some, share, self.scope) for some in scores]

    def _largest_share(self, scores: Sequence[Sequence[Tensor]], most: float) -> float:
        """By bisection, which is exact: who is kept of a share is kept of all larger ones, and more never take less."""
        counts = [_counts(some, self.scope) for some in scores]
        least = self._least_units()
        found = bisect_right(
            range(_FINE + 1), most, lo=least, key=lambda fine: self.share_of([of(fine / _FINE) for of in counts])
        )
        return max(least, found - 1) / _FINE

    def _least_units(self) -> int:
        """The least share of units, in parts of `_FINE`, that leaves one of each that are ranked together."""
        least = min(number for some in self.units for _, number in ranked_together(some, self.scope))
        return bisect_left(range(_FINE + 1), 1, key=lambda fine: number_kept(fine / _FINE, least))

    def _least(self) -> float:
        """The most time that the least share of units may take, wherever the scores put them."""
        share, left, more = self._least_units() / _FINE, [], 0.0
        for some in self.units:
            if self.scope == "global":
                more += self._most_of(some, number_kept(share, sum(one.number for one in some)))
                left.append([0] * len(some))
            else:
                left.append([number_kept(share, one.number) for one in some])
        return self.share_of(left) + more / self.table.milliseconds({})

    def _most_of(self, some: Sequence[Units], count: int) -> float:
        """The most milliseconds that so many units of these maps take above none of them, wherever they are."""
        most = np.full(count + 1, -np.inf)
        most[0] = 0.0
        for one in some:
            times = self.table.parts[one.part]
            own = np.array([times.at(k * times.all / one.number) for k in range(min(count, one.number) + 1)])
            # With k of this map and the rest of those before: the best of all k, for every number together.
            before = np.concatenate([np.full(len(own) - 1, -np.inf), most])
            most = np.array([(own + before[i : i + len(own)][::-1]).max() for i in range(count + 1)])
        return float(most[count]) - sum(self.table.parts[one.part].at(0) for one in some)


def _counts(scores: Sequence[Tensor], scope: str) -> Callable[[float], list[int]]:
    """How many units of each map are kept of a share of them; as `keep_highest` keeps, told without the masks."""
    numbers = [one.numel() for one in scores]
    if scope != "global":
        return lambda share: [number_kept(share, number) for number in numbers]
    maps = torch.arange(len(numbers)).repeat_interleave(torch.tensor(numbers))
    order = torch.cat([one.flatten() for one in scores]).argsort(descending=True, stable=True)
    ranked = maps[order.cpu()]
    return lambda share: ranked[: number_kept(share, len(ranked))].bincount(minlength=len(numbers)).tolist()
