"""Which reading of held-out text is the best so far: by the loss, or by a score that the objective tells."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gossamer.errors import InputError, quote
from gossamer.models.model import Model
from gossamer.training.objectives.base import BatchSource, Direction, Objective

if TYPE_CHECKING:
    from gossamer.training.evaluation import Evaluation

__all__ = ["check_metric", "direction_of", "ends_epoch", "is_better", "value_of"]

LOSS = "loss"


def check_metric(objective: Objective, metric: str | None, model: Model | None = None) -> None:
    """InputError for what the objective does not tell; of this model, where one is given."""
    known = _directions(objective, model)
    if metric is not None and metric not in known:
        whose = f"objective {objective.kind!r}" + ("" if model is None else ", with this model,")
        raise InputError(
            f"evaluation.metric is {quote(metric)}; the {whose} tells {', '.join(map(repr, known))}: name one of them"
        )


def direction_of(objective: Objective, metric: str | None) -> Direction:
    """Which way the metric is better, "higher" or "lower"."""
    return _directions(objective, None)[metric or LOSS]


def value_of(found: Evaluation, metric: str | None) -> float | None:
    """The metric's value; None where it cannot be told, or is no finite number."""
    value = found.numbers().get(metric or LOSS)
    return None if value is None or not math.isfinite(value) else value


def is_better(value: float | None, best: float | None, direction: Direction) -> bool:
    """Whether a reading is the best so far; one that cannot be told never is, and of equal ones the first."""
    if value is None or best is None:
        return value is not None
    return value < best if direction == "lower" else value > best


def ends_epoch(batches: BatchSource, step: int) -> bool:
    """Whether everything has been read another whole time with this step, the first being 1."""
    epochs = range(1, step + 1)
    place = bisect_left(epochs, step, key=batches.steps)
    # Epochs of less than a step: every step ends one.
    return place == len(epochs) or batches.steps(epochs[place]) == step


def _directions(objective: Objective, model: Model | None) -> Mapping[str, Direction]:
    return {LOSS: "lower", **objective.directions(model)}
