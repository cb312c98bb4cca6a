"""Reading small files of a checkpoint, and the seal (gossamer.json) that tells a damaged file from a whole one."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.errors import InputError, quote

__all__ = [
    "GENERATION",
    "SEAL",
    "check_inside",
    "check_seal",
    "is_as_sealed",
    "is_there",
    "read_json",
    "reason",
    "seal",
]

SEAL = "gossamer.json"
GENERATION = "generation_config.json"
_SEALED = "model.safetensors"


def reason(problem: BaseException) -> str:
    """Why something failed, as one short line."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    lines = str(problem).strip().splitlines()
    text = lines[0] if lines else type(problem).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def read_json(path: Path, kind: type = dict) -> Any:
    """The object (or list) in a JSON file. InputError names a file that is missing, damaged or something else.

    A key that is there twice is refused, because readers disagree on which of the two counts.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise InputError(f"{path}: is a {'directory' if path.is_dir() else 'device'}; it must be a JSON file")
        data = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=lambda one: _unique(path, one))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a model directory needs it") from None
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"{path}: not readable as JSON ({reason(problem)}); restore or download it again") from None
    if not isinstance(data, kind):
        raise InputError(f"{path}: holds {quote(data)}; it must be a JSON {'object' if kind is dict else 'list'}")
    return data


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InputError(f"{path}: the key {quote(name)} is there twice; keep one of them")
        found[name] = value
    return found


def is_there(path: Path) -> bool:
    """Whether something has this name, were it a link that leads nowhere."""
    return os.path.lexists(path)


def check_inside(directory: Path, name: object, where: Path) -> Path:
    """A file that another file names, which must lie inside the model directory."""
    if not isinstance(name, str) or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
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
        found = file.stat().st_size
        if found != size:
            return f"holds {found} bytes, {quote(size)} when it was saved"
        return None if _digest(file) == digest else "has changed since it was saved (SHA-256 differs)"
    except OSError as problem:
        return f"cannot be read ({reason(problem)})"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
