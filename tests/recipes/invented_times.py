"""Tables of times that nobody measured: the same on every machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from gossamer.models import Model
from gossamer.recipes.pruning import latency
from gossamer.training.pruning.time_table import PartTimes, TimeTable, part_sizes


def invented(model: Model, units: Sequence[Any] = ()) -> TimeTable:
    """The first unit of a part takes longer than any other, attention longer than a feed-forward."""
    parts = {}
    for name, size in part_sizes(model.architecture).items():
        first, more = (3.0, 2.0) if name.startswith("attention") else (1.0, 0.25)
        numbers = range(size + 1)
        times = [0.0, *(first + more * number for number in range(size))]
        parts[name] = PartTimes(units=tuple(numbers), milliseconds=tuple(times))
    return TimeTable(parts=parts, rest=1.0, conditions={"threads": 1})


@contextmanager
def inventing() -> Iterator[list[Model]]:
    """Inside the block nothing is timed; the models for which a table was asked."""
    asked: list[Model] = []

    def measure(model: Model, units: Sequence[Any]) -> TimeTable:
        asked.append(model)
        return invented(model, units)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "measure_times", measure)
        patch.setattr(latency, "milliseconds_in_turns", lambda models: {"whole": 4.0, "compacted": 3.0})
        yield asked
