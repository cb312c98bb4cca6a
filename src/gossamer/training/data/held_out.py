"""Which documents or rows are kept for evaluation."""

from typing import Literal

import numpy as np

from gossamer.models.checks import require

__all__ = ["HeldOutBy", "hold_out"]

HeldOutBy = Literal["hash", "last"]


def hold_out(count: int, held_out: int | float, by: HeldOutBy, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of what is trained on and of what is held out, both in order.

    held_out: how many of `count`, or a share of them; those with the smallest hashes of their numbers, whatever the
    seed, or the "last" ones. what: they are called. Raises InputError where that cannot be, or none is left to train
    on.
    """
    is_share = type(held_out) is float and 0 <= held_out < 1
    is_count = type(held_out) is int and 0 <= held_out < count
    least = f"a share below 1, or fewer than the {count:,} {what}"
    require(is_share or is_count, "held_out", held_out, least)
    kept = max(1, round(held_out * count)) if is_share and held_out else int(held_out)
    everything = np.arange(count)
    ranks = everything[::-1] if by == "last" else np.argsort(_hash(everything), kind="stable")
    held = np.zeros(count, dtype=bool)
    held[ranks[:kept]] = True
    require(not held.all(), "held_out", held_out, f"{least}; none is left to train on")
    return everything[~held], everything[held]


def _hash(numbers: np.ndarray) -> np.ndarray:
    """Whole numbers, mixed well (the finalizer of SplitMix64: Steele et al. 2014)."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
