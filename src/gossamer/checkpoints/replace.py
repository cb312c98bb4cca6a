"""Putting a finished directory in an old one's place, so that at every moment one of them is whole."""

import ctypes
import os
import platform
import re
import secrets
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    prefix = f".{target.name[:40]}.{zlib.crc32(platform.node().encode()):08x}."
    _remove_leftovers(target.parent, prefix)
    new = target.parent / f"{prefix}{os.getpid()}.{secrets.token_hex(4)}.new"
    try:
        new.mkdir()
        yield new
        _flush(new)
        _put(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove what saves that were killed here left behind; the process id in the name tells whether one still runs."""
    leftover = re.compile(re.escape(prefix) + r"(\d{1,9})\.[0-9a-f]{8}\.new")
    with suppress(OSError):  # a directory that may be written but not listed
        for path in list(parent.iterdir()):
            found = leftover.fullmatch(path.name)
            if found and _is_dead(int(found[1])):
                shutil.rmtree(path, ignore_errors=True)


def _is_dead(process: int) -> bool:
    if os.name == "nt":  # where signal 0 would end the process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


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
    _flush_directory(target.parent)


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
    for path in (directory, *(one for one in directory.rglob("*") if one.is_dir())):
        _flush_directory(path)


def _flush_directory(path: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
