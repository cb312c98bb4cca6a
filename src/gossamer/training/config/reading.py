"""Frozen settings from YAML, JSON or dicts: every value checked, every fault one line with the field's whole path."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from gossamer.checkpoints.files import reason
from gossamer.errors import InputError, quote

__all__ = ["changed", "check_names", "read_settings", "read_yaml"]

T = TypeVar("T")

MOST_BYTES = 2**20
"""No config is longer; a model's weights named by mistake are."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", dict: "a mapping of fields"}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML (or JSON) file, by the safe loader: no code is run. InputError for anything else."""
    import yaml  # type: ignore[import-untyped]

    try:
        if not path.is_file():
            what = "is a directory" if path.is_dir() else "no such file"
            raise InputError(f"{path}: {what}; name a YAML file with the settings of a training")
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: holds {path.stat().st_size:,} bytes; a config has at most {MOST_BYTES:,}")
        data = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_loader())
    except InputError:
        raise
    except yaml.YAMLError as problem:
        raise InputError(f"{path}: is no YAML ({_yaml_reason(problem)}); correct it") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"{path}: cannot be read ({reason(problem)}); name a YAML file") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds {quote(data)}; it must hold fields such as 'model:' and 'data:'")
    return data


def _loader() -> Any:
    """The safe loader, made to refuse a key that is there twice, of which it would keep the last in silence."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in getattr(node, "value", ()):
                if key.tag != "tag:yaml.org,2002:merge" and str(key.value) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {quote(key.value)} is there twice", key.start_mark
                    )
                seen.add(str(key.value))
            return super().construct_mapping(node, deep)

    return Loader


def _yaml_reason(problem: Any) -> str:
    mark = getattr(problem, "problem_mark", None)
    place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return place + (getattr(problem, "problem", None) or reason(problem))


def read_settings(cls: type[T], data: object, path: str = "") -> T:
    """A frozen dataclass from a mapping; nested ones too. InputError names the path, the value and what is allowed."""
    if isinstance(data, cls):
        return data
    given = _mapping(data, path)
    if isinstance(getattr(cls, "kinds", None), dict):
        cls = _class_of_kind(cls, given, path)
    hints = get_type_hints(cls)
    names = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    check_names(given, names, path)
    values = {name: _value(hints[name], value, _join(path, name)) for name, value in given.items()}
    for name, field in names.items():
        unset = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if unset and name not in given:
            raise InputError(f"{_join(path, name)} is missing; give {_allowed(hints[name])}")
    try:
        return cls(**values)
    except InputError as problem:
        first = re.match(r"\w*", str(problem))
        of_field = not path or (first is not None and first[0] in names)
        raise InputError(_join(path, str(problem)) if of_field else f"{path}: {problem}") from None


def _class_of_kind(cls: Any, given: dict[str, Any], path: str) -> Any:
    """Of a class of several kinds, that of the kind which the mapping names."""
    try:
        return cls.class_of(given.get("kind", cls.kind))
    except InputError as problem:
        raise InputError(_join(path, str(problem))) from None


def check_names(given: dict[str, Any], known: Any, path: str) -> None:
    """InputError for a field that is not known, with the nearest one that is."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"{_join(path, str(name)[:80])} is no field; {hint}")


def _mapping(data: object, path: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise InputError(f"{path or 'the config'} is {quote(data)}; it must be a mapping of fields")
    return data


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _value(kind: Any, value: Any, path: str) -> Any:
    """One value as its field's type wants it."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if value is None and type(None) in options:
        return None
    options = tuple(one for one in options if one is not type(None))
    nested: Any = next((one for one in options if dataclasses.is_dataclass(one)), None)
    if nested is not None and (isinstance(value, dict) or len(options) == 1 or isinstance(value, nested)):
        return read_settings(nested, value, path)
    for one in options:
        fits, converted = _fit(one, value, path)
        if fits:
            return converted
    raise InputError(f"{path} is {quote(value)}; it must be {_allowed(kind)}")


def _fit(kind: Any, value: Any, path: str) -> tuple[bool, Any]:
    """Whether a value fits one type, and the value in it."""
    origin = get_origin(kind)
    if kind is Any:
        return True, value
    if kind is float:
        return _number(value)
    if kind is int:
        return type(value) is int, value
    if origin is Literal:
        return value in get_args(kind) and not isinstance(value, bool), value
    if origin is tuple and isinstance(value, (list, tuple)):
        inner = get_args(kind)[0]
        return True, tuple(_value(inner, one, f"{path}[{i}]") for i, one in enumerate(value))
    if origin is dict and isinstance(value, dict):
        inner = get_args(kind)[1]
        return True, {str(name): _value(inner, one, _join(path, str(name))) for name, one in value.items()}
    return isinstance(kind, type) and isinstance(value, kind), value


def _number(value: Any) -> tuple[bool, Any]:
    """A number; YAML 1.1 takes 3e-4, without a point, for a text."""
    if isinstance(value, str):
        try:
            return True, float(value)
        except ValueError:
            return False, value
    return type(value) in (int, float), value


def _allowed(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_allowed(one) for one in inner if one is not type(None)))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner))
    if origin is tuple:
        return f"a list, each of it {_allowed(inner[0])}"
    if origin is dict or dataclasses.is_dataclass(kind):
        return _WORDS[dict]
    return _WORDS.get(kind, "a value of its type")


def changed(fields: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The mapping with another value at a path such as "optimizer.learning_rate"; settings on the way become mappings.

    InputError where something else stands on the way, such as a text that is short for a mapping.
    """
    name, _, rest = path.partition(".")
    if not rest:
        return {**fields, name: value}
    inner = {} if fields.get(name) is None else fields[name]
    if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
        inner = {field.name: getattr(inner, field.name) for field in dataclasses.fields(inner)}
    if not isinstance(inner, dict):
        raise InputError(f"{name} is {quote(inner)}; write it as a mapping of fields, for {path} to be changed")
    return {**fields, name: changed(inner, rest, value)}
