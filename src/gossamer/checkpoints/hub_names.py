"""Which files of a repository on the hub travel, and which names they may have."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from gossamer.checkpoints.files import list_some
from gossamer.errors import InputError, quote

__all__ = ["PICKLED", "PLAIN", "SAFE", "check_id", "check_name", "choose", "is_id"]

PLAIN = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.md", "LICENSE*", "NOTICE*")
"""Configuration, vocabularies, templates and texts."""
SAFE = "*.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib")
"""Weights in a form that runs code where it is read carelessly."""
_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_id(name: str) -> bool:
    """Whether a text can be an id on the hub: a name, or an owner and a name."""
    return _ID.fullmatch(name) is not None


def check_id(name: object, *, with_owner: bool = False) -> str:
    """An id on the hub; InputError for what can be none."""
    if not isinstance(name, str) or not is_id(name) or (with_owner and "/" not in name):
        raise InputError(f"{quote(name)} is no id on the hub; give one such as 'owner/name'")
    return name


def check_name(name: object, where: str) -> None:
    """Refuse a file's name that leads, or could lead on some system, outside of the folder it is meant for."""
    parts = name.split("/") if isinstance(name, str) else []
    is_safe = parts != [] and all(part not in ("", ".", "..") and part.isprintable() for part in parts)
    if not is_safe or "\\" in str(name) or ":" in str(name):
        raise InputError(
            f"{where} names the file {quote(name)}, which leads outside of the folder or does so elsewhere; nothing "
            "was written: tell the owner, or take another model"
        )


def choose(names: Iterable[str], allow: Sequence[str], where: str) -> tuple[list[str], list[str]]:
    """The names of files that travel, and of those that are left out.

    allow: further files, by their whole names. Raises InputError where one of them is not there, and where there are
    weights, but none that travels.
    """
    if isinstance(allow, str) or not all(isinstance(name, str) for name in allow):
        raise InputError(f"allow is {quote(allow)}; give a list of files' names, such as ['pytorch_model.bin']")
    listed = sorted(names)
    missing = [name for name in allow if name not in listed]
    if missing:
        raise InputError(f"{where} has no file {quote(missing[0])} to allow; it has {list_some(listed) or 'none'}")
    chosen = [name for name in listed if name in allow or _travels(name)]
    left_out = [name for name in listed if name not in chosen]
    pickled = [name for name in left_out if _fits(name, PICKLED)]
    if pickled and not any(_fits(name, (SAFE, *PICKLED)) for name in chosen):
        raise InputError(
            f"{where} has no weights as safetensors, only {list_some(pickled)}; other files come along where they are "
            f"named: allow='{pickled[0]}'"
        )
    return chosen, left_out


def _travels(name: str) -> bool:
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    return not is_hidden and _fits(name, (*PLAIN, SAFE))


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(PurePosixPath(name).name, pattern) for pattern in patterns)
