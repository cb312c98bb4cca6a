"""A pruning to a share of a model's time: the table that it goes by, kept with its run, and how right that was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gossamer.atomic_files import write_texts
from gossamer.errors import InputError, plural
from gossamer.models.model import Model
from gossamer.recipes.pruning.timing import measure_times, milliseconds_in_turns, time_conditions, timed_widths
from gossamer.recipes.receipts.measure import on_cpu
from gossamer.recipes.removal.cut import cut
from gossamer.recipes.removal.zeros import find_zeros
from gossamer.settings import plain
from gossamer.training.pruning.settings import Selection
from gossamer.training.pruning.time_budget import TimeBudget
from gossamer.training.pruning.time_table import TimeTable
from gossamer.training.pruning.units import Units, count_left

__all__ = ["compare_times", "measured_times", "times_in"]

_FILE = "latency.json"
"""In the output folder, the table of times that its run goes by."""


def times_in(
    folder: Path, model: Model, selection: Selection, remark: Callable[[str], None], *, goes_on: bool
) -> TimeTable:
    """The table that lies in the folder, or one that is measured and put there: a run that goes on has the same.

    goes_on: whether a run is there. InputError for a file that is no such table, another model's, or of other
    structures; where it is missing and a run is there; and for a latency that cannot be had, of which no file is left.
    """
    path, units = folder / _FILE, selection.units(model)
    if path.exists():
        return _read(path, model, units, remark)
    if goes_on:
        raise InputError(
            f"{path} is missing, the times by which the run there is pruned: put it back, or name another output"
        )
    table = measured_times(model, units, remark)
    replace(selection, times=table).budget(model, units)
    folder.mkdir(parents=True, exist_ok=True)
    write_texts({path: json.dumps(plain(table), indent=2) + "\n"})
    return table


def _read(path: Path, model: Model, units: Sequence[Sequence[Units]], remark: Callable[[str], None]) -> TimeTable:
    """The table of this file, whose parts were timed at the widths that these units need."""
    table = TimeTable.read(path)
    another = "another output has times of its own"
    try:
        table.check(model.architecture)
    except InputError as problem:
        raise InputError(f"{path}: {problem}; {another}") from None
    for name, widths in timed_widths(model.architecture, units).items():
        if not set(widths) <= set(table.parts[name].units):
            raise InputError(f"{path} has times for other structures, {name} at too few widths; {another}")
    now = time_conditions(model)
    differing = [name for name in ("threads", "processor") if table.conditions.get(name, now[name]) != now[name]]
    if differing:
        told = "; ".join(f"{name} {table.conditions[name]}, here {now[name]}" for name in differing)
        remark(f"{path}: the times were measured elsewhere ({told}), and hold for there")
    return table


def measured_times(model: Model, units: Sequence[Sequence[Units]], remark: Callable[[str], None]) -> TimeTable:
    """The table, as this machine has it now; somebody who waits is told so."""
    remark("measuring how long each part of the model takes at each width")
    return measure_times(model, units)


def compare_times(pruned: Model, budget: TimeBudget) -> tuple[dict[str, float], dict[str, Any]]:
    """For a receipt: what share of its time the table gives the pruned model, and what it takes without its zeros.

    That is measured in turns with the model as it is, whose zeros take as long as other numbers, here and now: the
    conditions tell how.
    """
    model = on_cpu(pruned)
    counts = [[count_left(model, one) for one in some] for some in budget.units]
    taken = milliseconds_in_turns({"whole": model, "compacted": cut(model, find_zeros(model))})
    measured = {
        "latency_by_the_table": budget.share_of(counts),
        "latency_when_compacted": taken["compacted"] / taken["whole"],
    }
    now = time_conditions(model)
    timed = f"{now['texts']} texts of {now['tokens']} tokens, {plural(now['threads'], 'thread')}, {now['processor']}"
    return measured, {"timed": timed}
