"""Reading the small files of a checkpoint, and what is said of those that cannot be read."""

import json
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossamer.errors import InputError, quote, remark
from gossamer.regular_files import read_regular
from gossamer.text.tokenizer_files import check_characters

__all__ = [
    "GENERATION",
    "check_inside",
    "is_there",
    "list_some",
    "naming",
    "read_json",
    "reason",
    "tell_unread",
    "write_json",
]

GENERATION = "generation_config.json"
_SHOWN, _LONGEST_NAME = 6, 120


def reason(problem: BaseException) -> str:
    """Why something failed, as one short line."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    lines = str(problem).strip().splitlines()
    text = lines[0] if lines else type(problem).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def list_some(names: Sequence[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return (
        ", ".join(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in names[:_SHOWN])
        + more
    )


@contextmanager
def naming(place: object) -> Iterator[None]:
    """Puts before what is wrong with a value where it stands: a file, mostly."""
    try:
        yield
    except InputError as problem:
        raise InputError(f"{place}: {problem}") from None


def read_json(path: Path, kind: type = dict) -> Any:
    """The object (or list) in a JSON file. InputError names a file that is missing, damaged or something else.

    A key that is there twice is refused, because readers disagree on which of the two counts.
    """
    try:
        text = read_regular(path, "it must be a JSON file").decode("utf-8-sig")
        data = json.loads(text, object_pairs_hook=lambda pairs: _unique(path, pairs))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a model directory needs it") from None
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"{path}: not readable as JSON ({reason(problem)}); restore or download it again") from None
    if not isinstance(data, kind):
        raise InputError(f"{path}: holds {quote(data)}; it must be a JSON {'object' if kind is dict else 'list'}")
    check_characters(path, text, data)
    return data


def write_json(path: Path, data: Any) -> None:
    """Write a small file that people may read, too."""
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def tell_unread(path: Path, config: Mapping[str, Any], known: Container[str]) -> None:
    """Say which fields of a sentence-transformers' file are not followed, where they ask for something."""
    unread = [name for name, value in config.items() if value not in (None, {}, []) and name not in known]
    if unread:
        remark(f"{path}: {', '.join(map(quote, unread))}: not read by Gossamer; vectors are made without")


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise InputError(f"{path}: the key {quote(name)} is there twice; keep one of them")
        fields[name] = value
    return fields


def is_there(path: Path) -> bool:
    """Whether something has this name, were it a link that leads nowhere."""
    return os.path.lexists(path)


def check_inside(directory: Path, name: object, where: Path) -> Path:
    """A file that another file names, which must lie inside the model directory."""
    if not isinstance(name, str) or "\0" in name or os.path.isabs(name) or ".." in Path(name).parts:
        raise InputError(f"{where}: names the file {quote(name)}; it must be a name inside the model directory")
    return directory / name
