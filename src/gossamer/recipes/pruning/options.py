"""Options of `gossamer.prune` that one way of pruning reads and another does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gossamer.checks import require
from gossamer.errors import InputError, quote
from gossamer.recipes.left_out import require_left_out

__all__ = ["check_read", "flat_settings"]

_OF_A_TRAINING = ("evaluate", "refine", "teacher", "epochs", "output", "learning_rate", "resume")
_OF_ROWS = ("head", "columns", "batch", "length", "settings")
_OF_A_SCORE = ("score", "structure", "keep", "latency", "scope", "block", "seed")
_OF_CALIBRATION = ("samples",)


_ARGUMENTS = ("score", "structure", "keep", "latency", "scope", "block")


def check_read(recipe: Callable[..., Any], options: Mapping[str, Any], way: str) -> None:
    """InputError for an option that was given and that this way does not read.

    recipe: whose options they are. way: "named", what to remove by name; "at once", by weights alone; "calibrated", by
    some rows; "training".
    """
    why, unread = {
        "named": (
            "heads, neurons or layers are named",
            (*_OF_A_SCORE, *_OF_A_TRAINING, *_OF_ROWS, *_OF_CALIBRATION),
        ),
        "at once": ("there is nothing to learn from (train)", (*_OF_A_TRAINING, *_OF_ROWS, *_OF_CALIBRATION)),
        "calibrated": (f"{options['score']!r} reads rows without training", _OF_A_TRAINING),
        "training": ("a training reads all rows", _OF_CALIBRATION),
    }[way]
    require_left_out(recipe, options, unread, why)
    settings = options["settings"]
    if way in ("calibrated", "training") and isinstance(settings, Mapping):
        _check_settings(settings, learns=way == "training")
        for name in ("steps", "minutes"):
            if settings.get(name) is not None:
                require_left_out(recipe, options, ("epochs",), f"settings name {name}")
        _check_objective(settings, options["teacher"])


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with fields of `pruning` each by itself, beside those that the recipe gives, not in their place."""
    whole = settings.get("pruning", {})
    return {
        **{name: value for name, value in settings.items() if name != "pruning"},
        **{f"pruning.{name}": value for name, value in whole.items()},
    }


def _check_settings(settings: Mapping[str, Any], *, learns: bool) -> None:
    """InputError for fields of `pruning` that are arguments of the recipe, and for any where nothing learns."""
    whole = settings.get("pruning", {})
    require(isinstance(whole, Mapping), "settings['pruning']", whole, "a mapping of its fields, or left out")
    named = [str(name).removeprefix("pruning.") for name in settings if str(name).startswith("pruning.")]
    for name in (*named, *whole):
        if name in _ARGUMENTS:
            raise InputError(f"settings name pruning.{name}, which is an argument of prune: give {name}")
        if not learns:
            raise InputError(f"settings name pruning.{name}; leave it out: the score reads rows without training")


def _check_objective(settings: Mapping[str, Any], teacher: object) -> None:
    """InputError for an objective that would stand in the place of the teacher's."""
    objective = settings.get("objective")
    kind = objective.get("kind") if isinstance(objective, Mapping) else objective
    if teacher is not None and "objective" in settings and kind != "distillation":
        raise InputError(
            f"settings name an objective ({quote(kind)}) in which the teacher has no part; name fields of what is "
            "learnt beside it, such as objective.task or objective.temperature, or give no teacher"
        )
