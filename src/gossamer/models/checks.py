"""Checks that the frozen descriptions share: each names the field, quotes the value and says what is allowed."""

from typing import Any, get_args

from gossamer.checks import is_finite, require

__all__ = [
    "MOST_COLUMNS",
    "MOST_LAYERS",
    "MOST_ROWS",
    "is_finite",
    "require",
    "require_choice",
    "require_count",
    "require_flag",
    "require_positive",
    "require_rate",
]

# Bounds that no real model comes near; with them every tensor's size in bytes fits 63 bits, so none can overflow.
MOST_ROWS = 2**31 - 1
MOST_COLUMNS = 2**24
MOST_LAYERS = 1024


def require_count(owner: object, *names: str, least: int = 1, most: int = MOST_COLUMNS) -> None:
    for name in names:
        value = getattr(owner, name)
        require(type(value) is int and least <= value <= most, name, value, f"a whole number from {least} to {most}")


def require_rate(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(type(value) in (int, float) and 0 <= value < 1, name, value, "a rate from 0 up to, not including, 1")


def require_positive(owner: object, *names: str, zero: bool = False) -> None:
    for name in names:
        value = getattr(owner, name)
        fits = is_finite(value) and (value > 0 or (zero and value == 0))
        require(fits, name, value, "a finite number, 0 or more" if zero else "a finite number above 0")


def require_flag(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        require(isinstance(value, bool), name, value, "true or false")


def require_choice(owner: object, choices: Any, *names: str) -> None:
    for name in names:
        value, allowed = getattr(owner, name), get_args(choices)
        require(isinstance(value, str) and value in allowed, name, value, "one of " + ", ".join(map(repr, allowed)))
