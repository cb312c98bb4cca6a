"""Reading small files of a checkpoint, and the seal (gossamer.json) that tells a damaged file from a whole one."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossamer.errors import InputError, quote
from gossamer.regular_files import open_regular, read_regular
from gossamer.text.tokenizer_files import check_characters

__all__ = [
    "GENERATION",
    "SEAL",
    "check_inside",
    "check_seal",
    "is_as_sealed",
    "is_there",
    "list_some",
    "naming",
    "read_json",
    "reason",
    "seal",
]

SEAL = "gossamer.json"
GENERATION = "generation_config.json"
_SEALED = "model.safetensors"
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


def seal(directory: Path, version: str, others: Mapping[str, bool]) -> None:
    """Write down size and SHA-256 of the weights, so that damage shows on loading; other files may be edited.

    others: further files, and whether they are Gossamer's own, which are written down too, or only known to be there.
    """
    entries = {name: _entry(directory / name) if own else {} for name, own in {_SEALED: True, **others}.items()}
    data = {"format": 1, "gossamer": version, "files": entries}
    (directory / SEAL).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": _digest(path)}


def check_seal(directory: Path) -> None:
    """Compare the weights with the seal, if there is one. InputError where they are missing or have changed."""
    path = directory / SEAL
    if not is_there(path):
        return
    files = read_json(path).get("files")
    if not isinstance(files, dict):
        raise InputError(f"{path}: its 'files' are {quote(files)}; restore this file or delete it to load unchecked")
    for name in files:
        check_inside(directory, name, path)
    if _SEALED in files:
        entry, file = files[_SEALED], directory / _SEALED
        size, digest = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        problem = _compare(file, size, digest)
        if problem:
            remedy = f"restore it, or delete {path} if another tool rewrote the model"
            raise InputError(f"{file}: differs from {SEAL}: it {problem}; {remedy}")


def is_as_sealed(directory: Path, name: str) -> bool | None:
    """Whether a file is as Gossamer wrote it; None where there is no seal that knows of it."""
    try:
        files = read_json(directory / SEAL).get("files")
    except InputError:
        return None
    entry = files.get(name) if isinstance(files, dict) else None
    if not isinstance(entry, dict):
        return None
    return _compare(directory / name, entry.get("size"), entry.get("sha256")) is None


def _compare(file: Path, size: object, digest: object) -> str | None:
    try:
        with open_regular(file, "restore the weights") as opened:
            found = os.fstat(opened.fileno()).st_size
            if found != size:
                return f"holds {found} bytes, {quote(size)} when it was saved"
            is_same = hashlib.file_digest(opened, "sha256").hexdigest() == digest
        return None if is_same else "has changed since it was saved (SHA-256 differs)"
    except OSError as problem:
        return f"cannot be read ({reason(problem)})"


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
