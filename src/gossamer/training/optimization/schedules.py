"""Learning rates over the steps of a run: warm-up, then one of the field's decays; a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gossamer.checks import require_whole
from gossamer.errors import InputError
from gossamer.models.checks import require, require_choice, require_count

__all__ = ["Schedule", "ScheduleName", "rate_at"]

ScheduleName = Literal["cosine", "linear", "inverse-sqrt", "constant"]
MOST_STEPS = 2**53


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the learning rate rises and falls.

    `warmup`: a whole number counts steps, a number below 1 is the share of all steps. `floor`: the share of the
    highest rate that cosine and linear end at. `steps`: of the whole run; cosine, linear and a warm-up given as a share
    need it.
    """

    name: ScheduleName = "cosine"
    warmup: int | float = 0
    floor: float = 0.0
    steps: int | None = None

    def __post_init__(self) -> None:
        require_choice(self, ScheduleName, "name")
        if self.steps is not None:
            require_count(self, "steps", most=MOST_STEPS)
        _check_warmup(self.warmup, self.steps)
        is_share = type(self.floor) in (int, float) and 0 <= self.floor <= 1
        require(is_share, "floor", self.floor, "a share of the highest rate, from 0 to 1")
        ends = self.name in ("cosine", "linear")
        require(ends or self.floor == 0, "floor", self.floor, f"left out: {self.name} does not end anywhere")

    @property
    def warmup_steps(self) -> int:
        """The warm-up in steps. Raises InputError where it is a share of steps that nobody has given."""
        if type(self.warmup) is int:
            return self.warmup
        return round(self.warmup * _known(self.steps, f"a warm-up of {self.warmup:g} of all steps"))


def rate_at(settings: Schedule, step: int) -> float:
    """The learning rate of update `step` (the first is 0) as a share of the optimizer's, from 0 to 1.

    It rises linearly, by 1 / warmup a step and from the first step on, and is 1 in the last step of the warm-up and in
    the one after it. Then, with x the share of the steps behind the warm-up that are done: cosine is
    floor + (1 - floor) (1 + cos(pi x)) / 2 (Loshchilov and Hutter 2017, section 3), linear 1 - (1 - floor) x,
    inverse-sqrt sqrt(warmup / step) (Vaswani et al. 2017, section 5.3, with its peak as 1), constant 1. The floor would
    be reached by the step after the last one, and is kept from there on. Raises InputError for a negative step, and
    where the number of steps is needed and not known.
    """
    require_whole("step", step, 0)
    warmup = settings.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    if settings.name == "constant":
        return 1.0
    if settings.name == "inverse-sqrt":
        return math.sqrt(max(warmup, 1) / max(step, 1))
    steps = _known(settings.steps, settings.name)
    done = min((step - warmup) / max(steps - warmup, 1), 1.0)
    # 1 - sin^2 is (1 + cos) / 2 without the rounding that could leave 0..1.
    left = 1 - done if settings.name == "linear" else 1 - math.sin(math.pi / 2 * done) ** 2
    return settings.floor + (1 - settings.floor) * left


def _check_warmup(warmup: object, steps: int | None) -> None:
    allowed = "a whole number of steps, or a share of them from 0 up to, not including, 1"
    counts = type(warmup) is int and 0 <= warmup <= MOST_STEPS
    require(counts or (type(warmup) is float and 0 <= warmup < 1), "warmup", warmup, allowed)
    if counts and steps is not None:
        require(warmup <= steps, "warmup", warmup, f"at most the number of steps, {steps}")  # type: ignore[operator]


def _known(steps: int | None, what: str) -> int:
    if steps is None:
        raise InputError(f"steps is None; {what} needs the number of steps of the whole run")
    return steps
