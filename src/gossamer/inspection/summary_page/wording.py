"""What is said of a change, in words: no colour has to be seen to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

__all__ = ["change", "number_change", "ratio", "spans"]


def ratio(other: float, first: float) -> str:
    """How many times as much the other model's is; "" where there is nothing to divide by."""
    return f"×{other / first:.3g}" if first else ""


def number_change(first: float, other: float) -> str:
    """ "same", or by how much it changed: "−1,182,336 (×0.948)"."""
    if first == other:
        return "same"
    times = ratio(other, first)
    sign = "+" if other > first else "−"
    return f"{sign}{abs(other - first):,.12g}" + (f" ({times})" if times else "")


def change(first: str, other: str) -> str:
    """ "same" or "differs"."""
    return "same" if first == other else "differs"


def spans(numbers: Iterable[int]) -> str:
    """Numbers in rising order with runs as one: 0–5, 8."""
    runs: list[Sequence[int]] = []
    for _, run in groupby(enumerate(numbers), key=lambda item: item[1] - item[0]):
        runs.append([number for _, number in run])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
