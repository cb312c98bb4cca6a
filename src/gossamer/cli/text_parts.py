"""Texts from the command line in parts, so that a text of any length, and any number of them, can be read."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.errors import InputError
from gossamer.text.documents import Document, read_documents

__all__ = ["Incoming", "TextParts"]

CHUNK = 2**17
SHOWN = 200
"""Characters that are kept of each text, to show what it was."""


@dataclass
class Incoming:
    """A text that is being read: where it is from, the other fields of its row, how it begins."""

    source: str
    fields: Mapping[str, Any]
    beginning: str = ""


class TextParts:
    """Documents from arguments and files, arguments first, and what is known of those that are being read.

    Raises InputError for files that are not there, and where there is nothing to read.
    """

    def __init__(self, arguments: Sequence[str], files: Sequence[Path], field: str) -> None:
        if not arguments and not files:
            raise InputError("there is no text; give TEXT, or --file FILE, or --file - for standard input")
        if sum(str(file) == "-" for file in files) > 1:
            raise InputError("--file names '-' twice; standard input can be read once")
        for file in files:
            _check(file)
        self.incoming: dict[int, Incoming] = {}
        self._arguments, self._files, self._field = arguments, files, field
        self._handed = self._read = 0
        is_known = all(str(file) != "-" and file.suffix not in (".gz", ".xz") for file in files)
        self._size = sum(file.stat().st_size for file in files) if is_known else None

    def documents(self) -> Iterator[Document]:
        """All of them, once; `incoming` has each from when it is asked for until somebody drops it."""
        number = -1
        for number, document in enumerate(self._documents()):
            self.incoming[number] = Incoming(document.name, document.fields)
            yield replace(document, parts=self._counted(document.parts, self.incoming[number]))
        if number < 0:
            raise InputError("there is no text: the files have none in them; name others")

    def characters(self) -> int | None:
        """About how many there are in all, by what was read so far; None where that cannot be told."""
        if self._size is None:
            return None
        return self._handed if not self._read else round(self._handed * max(1.0, self._size / self._read))

    def _documents(self) -> Iterator[Document]:
        for number, text in enumerate(self._arguments, 1):
            yield Document(source=f"argument {number}", parts=[text])
        for file in self._files:
            if str(file) == "-":
                yield Document(source="stdin", parts=_decoded(lambda: sys.stdin.buffer.read(CHUNK)))
            else:
                yield from read_documents([file], field=self._field, told=self._told)

    def _told(self, count: int) -> None:
        self._read += count

    def _counted(self, parts: Iterable[str], text: Incoming) -> Iterator[str]:
        for part in parts:
            self._handed += len(part)
            text.beginning = (text.beginning + part)[:SHOWN]
            yield part


def _check(file: Path) -> None:
    if str(file) == "-":
        if sys.stdin is None:
            raise InputError("--file is '-', but standard input is closed; pipe a text in, or name a file")
    elif file.is_dir():
        raise InputError(f"{file}: is a directory; name its files, such as {str(file).rstrip('/')}/*.txt")
    elif not file.exists():
        raise InputError(f"{file}: no such file; a text itself goes before --file")


def _decoded(read: Callable[[], bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        while data := read():
            yield decoder.decode(data)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as problem:
        bad = problem.object[problem.start]
        raise InputError(f"stdin: is no UTF-8 text (it holds the byte {bad:#04x}); convert it first") from None
