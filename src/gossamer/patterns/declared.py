"""The class of a pattern: what it must be before anybody asks it, and its fields in a description."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from gossamer.errors import InputError, quote

__all__ = ["check_class", "check_dataclass", "fields_from_json", "fields_to_json"]


def check_class(cls: Any, base: Any, kind: object) -> str:
    """The kind of a new subclass of `base`, whose finished ones are in `base.kinds`; InputError as `Pattern` says."""
    finished = next((one for one in cls.__mro__[1:] if one in base.kinds.values()), None)
    if finished is not None:
        raise InputError(
            f"pattern {cls.__qualname__}: it is derived from {finished.__qualname__}, whose pieces and merging "
            "would be taken for its own; derive it from Pattern"
        )
    # `dataclass(slots=True)` makes the class once more, from its attributes alone, first without its outer names.
    remade = kind is None
    kind = cls.__dict__.get("kind") if remade else kind
    if not isinstance(kind, str) or not kind:
        raise InputError(
            f"pattern {cls.__qualname__}: its kind is {quote(kind)}; give it a name of its own, as in class "
            f'{cls.__name__}(Pattern, kind="my-pattern")'
        )
    taken = base.kinds.get(kind)
    # The same definition run again, as by a reload or a cell of a notebook, takes the place of its earlier self.
    name = "__name__" if remade else "__qualname__"
    if taken is not None and any(getattr(taken, one) != getattr(cls, one) for one in ("__module__", name)):
        raise InputError(
            f"pattern {cls.__qualname__}: the kind {quote(kind)} is {taken.__module__}.{taken.__qualname__}'s; "
            "declare it with another one, since descriptions of patterns are read by their kind"
        )
    _check_answers(cls, base)
    return kind


def _check_answers(cls: type, base: type) -> None:
    """Refuse a method where `base` has a value, which would always count as true, or the reverse."""
    for name in vars(base):
        is_method = callable(getattr(base, name))
        if not name.startswith("__") and callable(getattr(cls, name)) != is_method:
            remedy = "it must be a method" if is_method else "it must be a value or a property, no method"
            raise InputError(f"pattern {cls.__qualname__}: {name} is {quote(getattr(cls, name))}; {remedy}")


def check_dataclass(cls: Any) -> None:
    """Refuse to make a pattern that could not be compared, or kept as a key."""
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen or cls.__hash__ is None:
        raise InputError(
            f"pattern {cls.__qualname__}: it is no frozen dataclass, so no call could tell it from others; put "
            "@dataclass(frozen=True) above its class"
        )


def fields_to_json(pattern: Any) -> dict[str, Any]:
    """The fields by name: patterns as their descriptions, tuples as lists."""
    return {field.name: _to_json(getattr(pattern, field.name)) for field in fields(pattern)}


def fields_from_json(cls: Any, values: dict[str, Any], read: Callable[[Any], Any]) -> dict[str, Any]:
    """What `fields_to_json` wrote; a list is a tuple where the field is declared as one, and `read` reads patterns."""
    tuples = {field.name for field in fields(cls) if "tuple" in str(field.type).lower()}
    return {
        name: _from_json(value, read) if _is_nested(value, name in tuples) else value for name, value in values.items()
    }


def _is_nested(value: Any, is_tuple: bool) -> bool:
    return isinstance(value, list) if is_tuple else isinstance(value, dict) and "pattern" in value


def _to_json(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return [_to_json(one) for one in value] if isinstance(value, tuple) else value


def _from_json(value: Any, read: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(one, read) for one in value)
    return read(value) if isinstance(value, dict) and "pattern" in value else value
