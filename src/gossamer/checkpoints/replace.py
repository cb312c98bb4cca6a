"""Putting a finished directory in an old one's place, so that at every moment one of them is whole."""

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gossamer.atomic_files import beside, flush_directory, take_modes

__all__ = ["replacing"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Hand out an empty directory beside `target`; put it in target's place when the block ends without an error.

    Whatever fails, an interrupt too, `target` stays as it was and the new directory is removed.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with beside(target) as new:
        new.mkdir()
        yield new
        take_modes(new, target)
        _flush(new)
        _put(new, target)


def _put(new: Path, target: Path) -> None:
    """Move `new` to `target`; what was there ends up at `new`, to be removed."""
    if not target.exists():
        new.rename(target)
    elif not _exchange(new, target):
        old = new.with_suffix(".old")
        target.rename(old)
        try:
            new.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    flush_directory(target.parent)


def _exchange(new: Path, target: Path) -> bool:
    """Swap two directories in one step, where the system can; False where it cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return rename(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE) == 0


def _flush(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for path in (directory, *(inner for inner in directory.rglob("*") if inner.is_dir())):
        flush_directory(path)
