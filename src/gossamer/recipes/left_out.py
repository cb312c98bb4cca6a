"""Options of a recipe that it would not read, given what else was asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gossamer.checks import require

__all__ = ["require_left_out"]


def require_left_out(recipe: Callable[..., Any], options: Mapping[str, Any], unread: Iterable[str], why: str) -> None:
    """InputError for an unread option that has another value than the recipe's signature; `why` says why it must not.

    options: what the recipe was called with, by the names of its parameters.
    """
    parameters = inspect.signature(recipe).parameters
    for name in unread:
        require(_is_usual(options[name], parameters[name].default), name, options[name], f"left out: {why}")


def _is_usual(value: object, default: object) -> bool:
    """Whether nobody asked for anything, whatever can be handed in: models and tables are equal to nothing."""
    if isinstance(default, Mapping):
        return isinstance(value, Mapping) and dict(value) == dict(default)
    numbers = (int, float)
    is_same_kind = type(value) is type(default) or (type(value) in numbers and type(default) in numbers)
    return value is default or (is_same_kind and value == default)
