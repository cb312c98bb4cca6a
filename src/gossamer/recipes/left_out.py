"""Options of a recipe that it would not read, given what else was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossamer.checks import require

__all__ = ["require_left_out"]


def require_left_out(options: Mapping[str, Any], usual: Mapping[str, Any], why: str) -> None:
    """InputError for an option that has not its usual value; `why` says why it must have that."""
    for name, default in usual.items():
        require(_is_usual(options[name], default), name, options[name], f"left out: {why}")


def _is_usual(value: object, default: object) -> bool:
    """Whether nobody asked for anything, whatever can be handed in: models and tables are equal to nothing."""
    if isinstance(default, Mapping):
        return isinstance(value, Mapping) and dict(value) == dict(default)
    numbers = (int, float)
    is_same_kind = type(value) is type(default) or (type(value) in numbers and type(default) in numbers)
    return value is default or (is_same_kind and value == default)
