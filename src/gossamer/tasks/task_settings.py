"""What a model's config.json asks for where it does a task: its `task_specific_params`, as T5 and BART have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gossamer.checks import is_whole
from gossamer.errors import InputError, quote
from gossamer.models.model import Model

__all__ = ["TaskSettings", "named_tasks", "read_task_settings"]

_BEAMS = ("num_beams", "length_penalty", "early_stopping")
_RULES = ("no_repeat_ngram_size", "repetition_penalty")


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What is put before texts, and what `gossamer.generate` takes as changes of its beams and rules."""

    prefix: str = ""
    max_new_tokens: int | None = None
    beams: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)


def named_tasks(model: Model) -> Mapping[str, Mapping[str, Any]]:
    """The settings of all tasks that the file names, by their names. InputError where they are none."""
    named = model.extra_config.get("task_specific_params") or {}
    if not isinstance(named, Mapping) or not all(isinstance(one, Mapping) for one in named.values()):
        raise InputError(f"config.json: task_specific_params is {quote(named)}; it must be an object of objects")
    return named


def read_task_settings(model: Model, name: str) -> TaskSettings:
    """Those of one task, none where the file has none. Raises InputError for a prefix or a length that is none.

    Its `max_length` and `min_length` count the start of a text, as in `transformers`.
    """
    said = named_tasks(model).get(name, {})
    prefix = said.get("prefix") or ""
    if not isinstance(prefix, str):
        raise InputError(f"config.json: the prefix of {name!r} is {quote(prefix)}; it must be a string")
    longest, shortest = (_length(name, said, of) for of in ("max_length", "min_length"))
    rules = {one: said[one] for one in _RULES if said.get(one) is not None}
    if shortest is not None and shortest > 1:
        rules["min_new_tokens"] = shortest - 1
    return TaskSettings(
        prefix=prefix,
        max_new_tokens=None if longest is None else longest - 1,
        beams={one: said[one] for one in _BEAMS if said.get(one) is not None},
        rules=rules,
    )


def _length(task: str, said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    if value is not None and not is_whole(value, 2 if name == "max_length" else 0):
        raise InputError(f"config.json: {name} of {task!r} is {quote(value)}; it must be a whole number of tokens")
    return value
