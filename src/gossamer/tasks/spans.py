"""The likeliest spans of a text of any length, one after the other, without looking at all of them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

__all__ = ["likeliest_spans"]

_Waiting = tuple[float, int, int, int, int]
"""A span's score, negated; its first and last token; the last token is the best from the fourth to before the fifth."""


def likeliest_spans(
    start: Float[np.ndarray, " tokens"], end: Float[np.ndarray, " tokens"], longest: int
) -> Iterator[tuple[int, int, float]]:
    """(first token, last token, probability) of all spans of at most `longest` tokens, the likeliest first.

    `start` and `end` are log-probabilities. The best end of each first token is a candidate; one that is taken leaves
    the ends before and behind it as two others: memory grows with the tokens and the spans taken, not with all spans.
    """
    tokens = len(start)
    low, high = np.arange(tokens), np.minimum(np.arange(tokens) + min(longest, tokens), tokens)
    highest = _Highest(end)
    last = highest(low, high)
    costs = -(start + end[last])
    order = np.argsort(costs, kind="stable").tolist()
    waiting: list[_Waiting] = []
    taken = 0
    while waiting or taken < tokens:
        if taken < tokens and (not waiting or costs[order[taken]] <= waiting[0][0]):
            first = order[taken]
            heapq.heappush(waiting, (float(costs[first]), first, int(last[first]), first, int(high[first])))
            taken += 1
            continue
        cost, first, best, begin, stop = heapq.heappop(waiting)
        yield first, best, math.exp(-cost)
        for one, other in ((begin, best), (best + 1, stop)):
            if one < other:
                (found,) = highest(np.array([one]), np.array([other])).tolist()
                heapq.heappush(waiting, (-float(start[first] + end[found]), first, found, one, other))


class _Highest:
    """The place of the highest of values[low:high]: ranges of powers of two are known, any other is two of them."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        levels, size = len(values).bit_length(), len(values)
        self.table = np.tile(np.arange(size), (levels, 1))
        for level in range(1, levels):
            half, count = 1 << (level - 1), size - (1 << level) + 1
            below = self.table[level - 1]
            self.table[level, :count] = self._higher(below[:count], below[half : half + count])

    def __call__(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        level = np.frexp(high - low)[1] - 1
        return self._higher(self.table[level, low], self.table[level, high - (1 << level)])

    def _higher(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.where(self.values[other] > self.values[one], other, one)
