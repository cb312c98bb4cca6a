"""Opening files that others wrote: only regular ones, since a pipe waits without end and a device never ends."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from gossamer.errors import InputError

__all__ = ["check_regular", "open_regular", "read_regular"]

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_regular(path: Path, remedy: str = "name a regular file") -> None:
    """Refuse what is there but no regular file, links followed, without opening it. OSError where there is nothing."""
    _refuse(path, os.stat(path).st_mode, remedy)


def open_regular(path: Path, remedy: str = "name a regular file") -> BufferedReader:
    """Open a regular file to read its bytes. InputError, at once, for a pipe, device, socket or directory.

    What is judged is what was opened, so nothing can take the file's place in between. Any other OSError is the
    caller's to put into words.
    """
    if path.is_dir():  # which some systems refuse to open
        _refuse(path, stat.S_IFDIR, remedy)
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        check_regular(path, remedy)  # a socket cannot even be opened
        raise
    try:
        _refuse(path, os.fstat(handle).st_mode, remedy)
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: Path, remedy: str = "name a regular file") -> bytes:
    """All bytes of a regular file; refuses what `open_regular` refuses."""
    with open_regular(path, remedy) as file:
        return file.read()


def _refuse(path: Path, mode: int, remedy: str) -> None:
    kind = stat.S_IFMT(mode)
    if kind != stat.S_IFREG:
        raise InputError(f"{path}: is {_KINDS.get(kind, 'no file')}, not a regular file; {remedy}")
