"""What Rust prints when it panics, kept off the terminal: the caller raises one line of its own."""

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_panic", "quiet_panics"]

_STDERR = threading.Lock()
_BLOCK = re.compile(rb"\n?thread '[^\n]* panicked at .*?(\nnote: [^\n]*\n|\Z)", re.DOTALL)
"""Four lines, or a whole backtrace, from where it happened to a note on how to see more."""


def is_panic(error: BaseException) -> bool:
    """Whether a Rust library panicked, which is no `Exception` in Python."""
    return type(error).__name__ == "PanicException"


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Drop what Rust itself writes of a panic inside the block, which therefore has to be short.

    Rust writes to the file descriptor, which all threads share: what others write meanwhile is passed on at the end.
    """
    with _STDERR, tempfile.TemporaryFile() as held:
        try:
            terminal = os.dup(2)
        except OSError:  # closed: nobody would see it
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            _write(_BLOCK.sub(b"", held.read()))


def _write(text: bytes) -> None:
    try:
        while text:
            text = text[os.write(2, text) :]
    except OSError:  # whoever wrote it would not have learned of a full or closed terminal either
        return
