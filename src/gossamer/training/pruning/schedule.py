"""How much is kept at a step: everything, then less and less, then what is to stay."""

from __future__ import annotations

from typing import Literal

from gossamer.models.checks import require

__all__ = ["ScheduleName", "share_at", "steps_of"]

ScheduleName = Literal["cubic", "linear", "one-shot"]


def share_at(name: ScheduleName, keep: float, first: int, last: int, step: int) -> float:
    """The share that is kept in step `step`, the first being 0.

    It is 1 before step `first`, and `keep` from step `last` on. Between them, with x from 0 to 1, the cubic one is
    `keep + (1 - keep) (1 - x)^3` (Zhu and Gupta 2017, arXiv 1710.01878, section 3; Sanh et al. 2020, section 5), the
    linear one `keep + (1 - keep) (1 - x)`, whose steps all remove as much; the one-shot one is `keep` at once.
    """
    if step < first:
        return 1.0
    if step >= last or name == "one-shot":
        return keep
    return keep + (1 - keep) * (1 - (step - first) / (last - first)) ** (3 if name == "cubic" else 1)


def steps_of(warmup: int | float, cooldown: int | float, steps: int) -> tuple[int, int]:
    """The step with which the pruning begins, and that of all of it: one more at least is there to learn from it.

    warmup, cooldown: of these steps, or shares of them. Raises InputError where they leave no step between them.
    """
    first = warmup if type(warmup) is int else round(warmup * steps)
    after = max(1, cooldown if type(cooldown) is int else round(cooldown * steps))
    allowed = f"so that warm-up and cool-down leave some of the {steps} steps between them"
    require(first + after <= steps, "pruning.cooldown", cooldown, allowed)
    return first, steps - after
