"""In which order rows are read: pure functions of the seed and the step."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from gossamer.errors import InputError, plural
from gossamer.training.data.packing import ROWS, remembered

__all__ = ["Grouped", "Order", "Shuffled"]

_DIGITS = 4
"""Lengths are rounded up to so many leading binary digits, by an eighth at most; those that then agree are equal."""


class Order(Protocol):
    """Which rows each step reads."""

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which every row is read once."""

    def rows(self, step: int) -> np.ndarray:
        """The numbers of a step's rows, int64 [rows]."""

    def total_before(self, step: int, sizes: np.ndarray) -> int:
        """What the rows that were read before a step come to; sizes: of every row [count]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shuffled:
    """`batch` of `count` rows a step, all rows in a new order each epoch."""

    count: int
    batch: int
    seed: int
    _orders: dict[int, np.ndarray] = field(init=False, default_factory=dict, repr=False)

    @property
    def steps_per_epoch(self) -> float:
        return self.count / self.batch

    def rows(self, step: int) -> np.ndarray:
        slots = range(step * self.batch, (step + 1) * self.batch)
        return np.array([self._epoch(slot // self.count)[slot % self.count] for slot in slots], dtype=np.int64)

    def total_before(self, step: int, sizes: np.ndarray) -> int:
        epoch, nth = divmod(step * self.batch, self.count)
        return epoch * int(sizes.sum()) + int(sizes[self._epoch(epoch)[:nth]].sum())

    def _epoch(self, epoch: int) -> np.ndarray:
        return remembered(
            self._orders, epoch, lambda: np.random.default_rng([self.seed, epoch, ROWS]).permutation(self.count)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Grouped:
    """Rows of about one length together, as many as a budget of tokens holds when all are padded to the longest.

    lengths: tokens of each row [count]. Rows stand in the order of their lengths, those of lengths within an eighth in
    a new order each epoch, and are cut where the budget is full: at the same places in every epoch, so that an epoch
    has the same number of steps. The batches come in a new order each epoch. Raises InputError where a row has more
    tokens than the budget.
    """

    lengths: np.ndarray
    tokens: int
    seed: int
    _orders: dict[int, tuple[np.ndarray, np.ndarray]] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        longest = int(self.lengths.max())
        if longest > self.tokens:
            raise InputError(
                f"batch.tokens is {self.tokens:,}, but the longest row has {plural(longest, 'token')}; give at least "
                "those, or a smaller batch.length"
            )

    @property
    def steps_per_epoch(self) -> float:
        return float(len(self._cuts) - 1)

    def rows(self, step: int) -> np.ndarray:
        epoch, nth = divmod(step, len(self._cuts) - 1)
        rows, batches = self._epoch(epoch)
        return self._batch(rows, batches[nth])

    def in_order(self) -> list[np.ndarray]:
        """Every row once, the shortest first, in batches within the budget."""
        rows = np.argsort(self._widths, kind="stable")
        return [self._batch(rows, nth) for nth in range(len(self._cuts) - 1)]

    def total_before(self, step: int, sizes: np.ndarray) -> int:
        epoch, nth = divmod(step, len(self._cuts) - 1)
        rows, batches = self._epoch(epoch)
        up_to = np.concatenate([[0], np.cumsum(sizes[rows])])[self._cuts]
        return epoch * int(sizes.sum()) + int((up_to[batches[:nth] + 1] - up_to[batches[:nth]]).sum())

    def _batch(self, rows: np.ndarray, nth: int) -> np.ndarray:
        return rows[self._cuts[nth] : self._cuts[nth + 1]]

    @cached_property
    def _widths(self) -> np.ndarray:
        """Lengths, rounded up to what counts as equal."""
        step = 2 ** np.maximum(np.frexp(self.lengths)[1].astype(np.int64) - _DIGITS, 0)
        return np.minimum(-(-self.lengths // step) * step, self.lengths.max())

    @cached_property
    def _cuts(self) -> list[int]:
        """Where each batch begins among the rows by length, and the end of the last one."""
        widths, cuts = np.sort(self._widths), [0]
        while cuts[-1] < len(widths):
            begin = cuts[-1]
            # The budget holds most rows where they are short, so no more than that need be looked at.
            most = widths[begin : begin + self.tokens // int(widths[begin])]
            fits = most * np.arange(1, len(most) + 1) <= self.tokens
            cuts.append(begin + int(np.count_nonzero(fits)))
        return cuts

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows by length, and the order of the batches."""

        def make() -> tuple[np.ndarray, np.ndarray]:
            draw = np.random.default_rng([self.seed, epoch, ROWS])
            return np.lexsort((draw.random(len(self.lengths)), self._widths)), draw.permutation(len(self._cuts) - 1)

        return remembered(self._orders, epoch, make)
