"""Patterns from their JSON descriptions."""

from dataclasses import fields
from typing import Any

from gossamer.errors import InputError, quote
from gossamer.patterns.base import Pattern

__all__ = ["pattern_from_dict"]

DEEPEST = 8
"""Patterns nest at most three deep (heads, union, part); hand-written unions of unions get some room."""


def pattern_from_dict(data: Any) -> Pattern:
    """Read what `Pattern.to_dict` wrote; raises `InputError` on anything else, naming the field and the value."""
    return _read(data, 1)


def _read(data: Any, depth: int) -> Pattern:
    if depth > DEEPEST:
        raise InputError(f"pattern: the description nests more than {DEEPEST} patterns deep; write it flat")
    if not isinstance(data, dict):
        raise InputError(f"pattern: the description is {quote(data)}; it must be a dictionary with a 'pattern' key")
    kind = data.get("pattern")
    found = Pattern.kinds.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise InputError(f"pattern: the type is {quote(kind)}; it must be one of {', '.join(sorted(Pattern.kinds))}")
    values = {name: value for name, value in data.items() if name != "pattern"}
    _check_names(found, values)
    return found._from_fields(values, lambda nested: _read(nested, depth + 1))


def _check_names(kind: type[Pattern], values: dict[Any, Any]) -> None:
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    needed = [name for name in known if name not in kind.later]
    problems = [f"unknown field {quote(name)}" for name in values if name not in known]
    problems += [f"missing field {name!r}" for name in needed if name not in values]
    if problems:
        allowed = ", ".join(known) or "none"
        raise InputError(f"pattern {kind.kind!r}: {', '.join(problems[:4])}; the fields are: {allowed}")
