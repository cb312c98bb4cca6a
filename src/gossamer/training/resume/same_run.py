"""Whether a run may go on from a checkpoint: the same data, model and settings, or a line that says what changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from gossamer.errors import InputError, quote
from gossamer.models.architecture import Architecture, differences
from gossamer.settings import plain
from gossamer.training.resume.state import RunState

__all__ = ["check_same_run", "with_later_settings"]

# What is written and shown, how long this part of the run may take, what digests and weights stand for, and what the
# conditions tell.
_HARMLESS = (
    *("output", "journal", "checkpoints", "sample", "minutes", "model", "threads", "device", "parallel"),
    *("data.train", "data.tokenizer", "data.field", "data.split", "data.format", "data.control_tokens"),
    *("evaluation.data", "objective.teacher", "objective.cache.folder"),
)
# The same sums in another order: allowed, and said.
# Of these alone not: the weights of a run do not stand for them.
_GRAVE = ("model.adapters",)
_ROUNDING = ("recompute", "batch.accumulation")
_CONDITIONS = ("threads", "processes", "device", "torch")
# Other versions may draw another order of the documents, or other masks.
_DRAWING = ("gossamer", "numpy")
_SHOWN = 4


def with_later_settings(before: dict[str, Any], settings: Any) -> dict[str, Any]:
    """A run's settings and, where the version that wrote them had fewer, the defaults of those that came later.

    settings: today's, of the run that is to go on. What it switched off as a whole stays off.
    """
    if not dataclasses.is_dataclass(settings):
        return before
    found = {
        name: with_later_settings(value, getattr(settings, name, None)) if isinstance(value, dict) else value
        for name, value in before.items()
    }
    for field in dataclasses.fields(settings):
        if field.default is not dataclasses.MISSING:
            found.setdefault(field.name, plain(field.default))
        elif field.default_factory is not dataclasses.MISSING:
            found.setdefault(field.name, plain(field.default_factory()))
    return found


def check_same_run(before: RunState, now: RunState, remark: Callable[[str], None]) -> None:
    """Raises InputError naming all that changed and matters; remarks on what changes no more than rounding."""
    stands = f"the run, which stands at step {before.step:,}"
    remedy = "put it back to go on, or begin anew with another output"
    if before.data != now.data:
        raise InputError(
            f"the data are not those of {stands}: put them back to go on, or begin anew with another output"
        )
    # First: other settings make another model, which is not at fault then.
    changes = [one for one in _changes(before.config, now.config) if not _is_harmless(one[0])]
    grave = [f"{path} was {quote(old)}, is {quote(new)}" for path, old, new in changes if not _is_in(path, _ROUNDING)]
    if grave:
        more = f" and {len(grave) - _SHOWN} more" if len(grave) > _SHOWN else ""
        raise InputError(f"the settings are not those of {stands}: {'; '.join(grave[:_SHOWN])}{more}; {remedy}")
    unlike = differences(Architecture.from_dict(before.architecture), Architecture.from_dict(now.architecture))
    if unlike:
        raise InputError(f"the model is not that of {stands}: {unlike[0]}; {remedy}")
    for name, digest in now.beside.items():
        if before.beside.get(name, digest) != digest:  # an older version told less
            raise InputError(f"the {name} is not that of {stands}: {remedy}")
    conditions = [(name, before.conditions.get(name), now.conditions.get(name)) for name in _CONDITIONS]
    for path, old, new in (*changes, *(one for one in conditions if one[1] != one[2])):
        remark(
            f"{path} was {quote(old)} up to step {before.step:,}, is {quote(new)}: sums may round differently from here"
        )
    for name in _DRAWING:
        old, new = before.conditions.get(name), now.conditions.get(name)
        if old != new:
            remark(
                f"{name} was {quote(old)} up to step {before.step:,}, is {quote(new)}: batches may hold other "
                "documents from here on than in a run never stopped"
            )


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    old, new = _flat(before), _flat(now)
    paths = [*old, *(path for path in new if path not in old)]
    return [(path, old.get(path), new.get(path)) for path in paths if old.get(path) != new.get(path)]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    found: dict[str, Any] = {}
    for name, one in value.items():
        found |= _flat(one, f"{path}.{name}" if path else name)
    return found


def _is_harmless(path: str) -> bool:
    return _is_in(path, _HARMLESS) and not _is_in(path, _GRAVE)


def _is_in(path: str, places: tuple[str, ...]) -> bool:
    return any(path == place or path.startswith(f"{place}.") for place in places)
