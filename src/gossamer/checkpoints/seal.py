"""The seal of a directory: a file that says what the others were when they were written, by size and SHA-256."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.checkpoints.files import check_inside, is_there, read_json, reason
from gossamer.errors import InputError, quote
from gossamer.regular_files import open_regular

__all__ = ["SEAL", "check_seal", "digest_of", "is_as_sealed", "seal", "write_seal"]

SEAL = "gossamer.json"
_SEALED = "model.safetensors"


def seal(directory: Path, version: str, others: Mapping[str, bool]) -> None:
    """Write down size and SHA-256 of the weights, so that damage shows on loading; other files may be edited.

    others: further files, and whether they are Gossamer's own, which are written down too, or only known to be there.
    """
    entries = {name: _entry(directory / name) if own else {} for name, own in {_SEALED: True, **others}.items()}
    write_seal(directory / SEAL, {"format": 1, "gossamer": version, "files": entries})


def write_seal(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a seal's own file."""
    path.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


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
    for name in [one for one in files if one == _SEALED or one.endswith(f"/{_SEALED}")]:
        file, entry = directory / name, files[name]
        problem = _difference(file, entry if isinstance(entry, dict) else {})
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
    return _difference(directory / name, entry) is None if isinstance(entry, dict) else None


def digest_of(path: Path) -> str:
    """The SHA-256 of a regular file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": digest_of(path)}


def _difference(path: Path, entry: Mapping[str, Any]) -> str | None:
    """How a file differs from what its seal says, in words; None where it does not."""
    try:
        with open_regular(path, "restore the weights") as file:
            size = os.fstat(file.fileno()).st_size
            if size != entry.get("size"):
                return f"holds {size} bytes, {quote(entry.get('size'))} when it was saved"
            is_same = hashlib.file_digest(file, "sha256").hexdigest() == entry.get("sha256")
        return None if is_same else "has changed since it was saved (SHA-256 differs)"
    except OSError as problem:
        return f"cannot be read ({reason(problem)})"
