"""Checks of single values: each names what was given, quotes the value and says what is allowed."""

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any, TypeGuard

import numpy as np

from gossamer.errors import InputError, quote

__all__ = ["as_python", "is_finite", "is_whole", "require", "require_whole"]


def is_finite(value: object) -> bool:
    """Whether a value is a number that a float can hold; true and false are none, nor are whole ones beyond that."""
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:
        return False


def is_whole(value: object, least: float = 0, most: float = math.inf) -> TypeGuard[int]:
    """Whether a value is a whole number in a range, Python's or NumPy's; true and false are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def as_python(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, in containers too, of which ranges and sets become lists."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {as_python(name): as_python(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(as_python, value)) if type(value) in (list, tuple) else value
    return list(map(as_python, value)) if isinstance(value, range | set | frozenset) else value


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise InputError unless it holds."""
    if not holds:
        raise InputError(f"{name} is {quote(value)}; it must be {allowed}")


def require_whole(name: str, value: object, least: int = 1, *, of: str = "", instead: str = "") -> None:
    """Refuse what is no whole number, `least` or more. of: what it counts; instead: what else the caller takes."""
    counted = f"a whole number of {of}" if of else "a whole number"
    require(is_whole(value, least), name, value, f"{counted}, {least} or more{f', or {instead}' if instead else ''}")
