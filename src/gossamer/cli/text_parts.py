"""Texts from the command line in parts, so that a text of any length, and any number of them, can be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.cli.texts import Text, TextFormat, documents_of, open_sources
from gossamer.errors import InputError
from gossamer.text.documents import Document, Split

__all__ = ["Incoming", "TextParts"]

_PACKED = (".gz", ".xz", ".zst", ".parquet")
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

    Arguments, files and errors are those of `gossamer.cli.texts.read_texts`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        files: Sequence[Path],
        field: str,
        *,
        format: TextFormat | None = None,
        as_text: bool = False,
        split: Split = "file",
    ) -> None:
        self._sources = open_sources(arguments, files, format=format, as_text=as_text)
        self.incoming: dict[int, Incoming] = {}
        self._field, self._format, self._split = field, format, split
        self._handed = self._read = 0
        self._size = _bytes_of([source for source in self._sources if isinstance(source, Path)])

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
        for source in self._sources:
            if isinstance(source, Text):
                yield Document(source=source.source, parts=[source.text])
            else:
                yield from documents_of(source, self._field, self._format, self._told, self._split)

    def _told(self, count: int) -> None:
        self._read += count

    def _counted(self, parts: Iterable[str], text: Incoming) -> Iterator[str]:
        for part in parts:
            self._handed += len(part)
            text.beginning = (text.beginning + part)[:SHOWN]
            yield part


def _bytes_of(files: Sequence[Path]) -> int | None:
    """The size of plain files, which is about that of their texts; None where one is packed, or a stream."""
    is_known = all(file != Path("-") and file.is_file() and file.suffix not in _PACKED for file in files)
    return sum(file.stat().st_size for file in files) if is_known else None
