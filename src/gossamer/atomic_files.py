"""Files and folders that are there whole or not at all, and what it takes for them to outlast a power cut."""

import os
import platform
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from gossamer.errors import InputError, quote
from gossamer.regular_files import check_regular

__all__ = [
    "beside",
    "check_writable",
    "flush_directory",
    "open_whole",
    "put_whole",
    "take_modes",
    "write_errors",
    "write_texts",
    "write_whole",
]


def check_writable(path: Path) -> None:
    """Refuse, before any work is done, a name under which no file could be written.

    A folder, pipe, device or socket that is there already is none; a file that may not be written is left alone.
    """
    try:
        is_there = True
        check_regular(path, "name a regular file, or a new one")
    except (FileNotFoundError, NotADirectoryError):
        is_there = False
    except (OSError, ValueError) as problem:
        if isinstance(problem, InputError):
            raise
        why = getattr(problem, "strerror", None) or problem  # such as a name that is too long, links in a circle
        raise InputError(f"{quote(str(path))} cannot be a file's name ({why}); choose another") from None
    path = path.resolve() if path.is_symlink() else path
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no directory {str(path.parent)!r}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: the directory {str(path.parent)!r} may not be written to; name another one")
    if is_there and not os.access(path, os.W_OK):
        raise InputError(f"{path}: is there, and may not be written; change its permissions, or name another file")


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside `path`, then put it in its place: whatever fails, an old file there stays whole.

    A link is written through, and the permissions of an old file stay. Raises InputError for what is there and no
    file, before `write` is called, and OSError, with the path, where it cannot be written.
    """
    if path.exists():
        check_regular(path, "name a regular file, or a new one")
    with write_errors(path), beside(path.resolve()) as new:
        with open_whole(new, path) as file:
            write(file)
        put_whole(new, path)


def write_texts(texts: Mapping[Path, str]) -> None:
    """Write several files, in UTF-8, then put them in their places: where one cannot be written, all old ones stay."""
    with ExitStack() as stack:
        written = []
        for path, text in texts.items():
            with write_errors(path):
                new = stack.enter_context(beside(path.resolve()))
                with open_whole(new, path) as file:
                    file.write(text.encode())
            written.append((new, path))
        for new, path in written:
            with write_errors(path):
                put_whole(new, path)


@contextmanager
def open_whole(new: Path, path: Path) -> Iterator[BinaryIO]:
    """A new file to write, read and seek in, which is on the disk at the end of the block.

    Its permissions are those of the file at `path`, whose place it is to take, if there is one.
    """
    with new.open("x+b") as file:
        with suppress(FileNotFoundError):
            os.chmod(new, stat.S_IMODE(os.stat(path).st_mode))
        yield file
        file.flush()
        os.fsync(file.fileno())


def put_whole(new: Path, path: Path) -> None:
    """Put a finished file in its place, over an old one, links followed."""
    path = path.resolve()
    os.replace(new, path)
    flush_directory(path.parent)


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Says of an OSError which file could not be written, whichever name it met with."""
    try:
        yield
    except OSError as problem:
        raise OSError(problem.errno, f"could not be written ({problem.strerror})", str(path)) from problem


@contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A free name in the target's folder, for the file or folder that is to take its place when it is finished.

    Whatever is there under that name when the block ends, an error or an interrupt too, is removed; so is what writers
    of the same target left behind when they were killed on this machine.
    """
    prefix = f".{target.name[:40]}.{zlib.crc32(platform.node().encode()):08x}."
    _remove_leftovers(target.parent, prefix)
    new = target.parent / f"{prefix}{os.getpid()}.{secrets.token_hex(4)}.new"
    try:
        yield new
    finally:
        _remove(new)


def take_modes(new: Path, target: Path) -> None:
    """Let a finished file, or a folder and all files in it, be read by whom those may read that they are to replace.

    What replaces nothing in a folder gets the permissions of any file that is made there: some writers make theirs for
    the owner alone.
    """
    if os.name == "nt":
        return
    is_folder = new.is_dir()
    fresh_folder, fresh_file = (_mode(new), _fresh_mode(new)) if is_folder else (None, None)
    for path in (new, *(new.rglob("*") if is_folder else ())):
        if path.is_symlink():
            continue
        old = target / path.relative_to(new)
        is_replaced = not old.is_symlink() and (old.is_dir() if path.is_dir() else old.is_file())
        mode = _mode(old) if is_replaced else fresh_folder if path.is_dir() else fresh_file
        if mode is not None and _mode(path) != mode:
            path.chmod(mode)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _fresh_mode(folder: Path) -> int:
    """What umask and folder give to a new file: nothing tells but making one."""
    probe = folder / f".{secrets.token_hex(8)}"
    try:
        probe.touch()
        return _mode(probe)
    finally:
        probe.unlink(missing_ok=True)


def flush_directory(path: Path) -> None:
    """Return when the names in a folder are on the disk."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """The process id in the name tells whether its writer still runs."""
    leftover = re.compile(re.escape(prefix) + r"(\d{1,9})\.[0-9a-f]{8}\.new")
    with suppress(OSError):  # a folder that may be written but not listed
        for path in list(folder.iterdir()):
            found = leftover.fullmatch(path.name)
            if found and _is_dead(int(found[1])):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
