"""Documents from files: plain text, JSON, tables, packed or not; from an open stream; and the package's speeches."""

import gzip
import io
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO, get_args

from gossamer.errors import InputError, quote
from gossamer.regular_files import check_regular, open_regular
from gossamer.text.file_formats import FileFormat, check_format, detect_format, format_of_name, unpack
from gossamer.text.rows import CHUNK, Row, Split, json_rows, jsonl_rows, parquet_rows, table_rows, text_rows
from gossamer.text.speeches import speeches

__all__ = ["Document", "InputStream", "Split", "input_bytes", "read_documents"]

SPEECHES = "speeches"
_TELLING = re.compile(rb"[^\s\[{]")

Told = Callable[[int], None]
Remark = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text in parts, which are read once, in order, before the next document is asked for.

    source: the file. number: its line or row there, from 1; 0 for a whole file. fields: the others of its row.
    """

    source: str
    number: int = 0
    parts: Iterable[str]
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Where it is from: `speech.txt`, `speeches.jsonl:3`."""
        return f"{self.source}:{self.number}" if self.number else self.source


@dataclass(frozen=True)
class InputStream:
    """An open stream of bytes to read documents from, and what to call it, such as "standard input"."""

    name: str
    stream: BinaryIO


Input = str | Path | InputStream


def read_documents(
    inputs: Sequence[Input],
    *,
    field: str | None = "text",
    split: Split = "file",
    format: str | None = None,
    told: Told = lambda count: None,
    remark: Remark | None = None,
    lenient: bool = False,
) -> Iterator[Document]:
    """All documents of all inputs, in their order; memory holds one row, or a piece of a whole file, at a time.

    An input is a file, an open stream, or the word `speeches` for those of the package. A file's ending says what it
    holds: .txt and .md UTF-8 text; .jsonl an object a line; .json an array of texts or objects; .csv and .tsv rows
    under a line that names the columns; .parquet the same; each but the last also packed, with .gz, .xz or .zst behind
    it (.parquet and .zst need the extra `data`). The text is in `field`; None: rows are
    read for their fields alone. What has no ending is looked into. format: how all inputs are written, whatever their
    endings: "txt", "jsonl", "json", "csv", "tsv" or "parquet".

    split: what a document of plain text is: the whole "file", each of its "lines", or "paragraphs" (what stands between
    blank lines); blank ones are left out. told: is called with the number of bytes whenever some were read. remark: is
    told what the reader should know: that an input is a pipe (refused without it), or is no plain text by its content.
    lenient: a row that cannot be read does not end the reading; its `parts` raise the InputError when they are asked
    for. Raises InputError for what cannot be read.
    """
    if split not in get_args(Split):
        raise InputError(f"split is {quote(split)}; it must be one of {', '.join(map(repr, get_args(Split)))}")
    check_format(format)
    input_bytes(inputs, pipes=remark is not None)
    for each in inputs:
        if isinstance(each, str | Path) and each != SPEECHES:
            format_of_name(str(each), format)
    return _documents(
        inputs,
        partial(_Reader, field=field, split=split, format=format, told=told, remark=remark, lenient=lenient),
    )


def input_bytes(inputs: Sequence[Input], *, pipes: bool = True) -> int:
    """The size of all inputs, as `read_documents` tells it (0 for a pipe); InputError where one is missing or no file.

    pipes: whether named pipes will do.
    """
    if isinstance(inputs, str | Path) or not inputs:
        raise InputError(f"the inputs are {quote(inputs)}; give a list of one file or more")
    return sum(_bytes_of(each, pipes) for each in inputs)


def _bytes_of(source: Input, pipes: bool) -> int:
    if isinstance(source, InputStream):
        return 0
    if source == SPEECHES:
        return sum(len(speech.text.encode()) for speech in speeches())
    path = Path(source)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a directory; name its files, such as {path}/*.txt")
        if not (pipes and _is_pipe(path)):
            check_regular(path, "name a regular file of texts")
        return path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name a text or .jsonl file, or {SPEECHES!r}") from None
    except InputError:
        raise
    except (OSError, ValueError) as problem:
        raise InputError(f"{quote(str(path))} cannot be read ({problem}); name another file") from None


def _is_pipe(path: Path) -> bool:
    return stat.S_ISFIFO(os.stat(path).st_mode)


def _documents(inputs: Sequence[Input], reader: Callable[..., "_Reader"]) -> Iterator[Document]:
    for source in inputs:
        if isinstance(source, InputStream):
            yield from reader(name=source.name).read(source.stream)
        elif source == SPEECHES:
            yield from _speeches(reader(name=SPEECHES).told)
        else:
            yield from reader(name=str(source)).read_path(Path(source))


def _speeches(told: Told) -> Iterator[Document]:
    for number, speech in enumerate(speeches(), 1):
        yield Document(source=SPEECHES, number=number, parts=[speech.text])
        told(len(speech.text.encode()))


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """How one input is read, once and to its end."""

    name: str
    field: str | None
    split: Split
    format: str | None
    told: Told
    remark: Remark | None
    lenient: bool

    def read_path(self, path: Path) -> Iterator[Document]:
        with _read_errors(self.name), self._open(path) as file:
            yield from self.read(file)

    def read(self, stream: BinaryIO) -> Iterator[Document]:
        """The documents of an open file or pipe."""
        form = format_of_name(self.name, self.format)
        with _read_errors(self.name):
            for number, parts, fields in self._table(stream) if form.content == "parquet" else self._rows(stream, form):
                yield Document(source=self.name, number=number, parts=_guarded(parts, self.name), fields=fields)

    def _open(self, path: Path) -> BinaryIO:
        if self.remark is None or not _is_pipe(path):
            return open_regular(path, "name a regular file of texts")
        self.remark(f"{path}: is a pipe, which is read until its writer ends")
        return path.open("rb")

    def _table(self, stream: BinaryIO) -> Iterator[Row]:
        if not stream.seekable():
            raise InputError(f"{self.name}: a pipe cannot be read as parquet, which begins at its end; name a file")
        size = stream.seek(0, io.SEEK_END)
        told = 0

        def tell(share: float) -> None:
            nonlocal told
            self.told(int(share * size) - told)
            told = int(share * size)

        yield from parquet_rows(stream, self.name, self.field, tell, self.lenient)

    def _rows(self, stream: BinaryIO, form: FileFormat) -> Iterator[Row]:
        data = io.BufferedReader(_FromFirstLine(stream, self.told), CHUNK)
        if form.content is None and not form.packing:
            form = detect_format(self.name, data.peek(), self.field)
        with unpack(data, form.packing) as unpacked:
            plain = io.BufferedReader(_FromFirstLine(unpacked), CHUNK)
            if form.content is None:
                form = detect_format(self.name, plain.peek(), self.field, form.packing)
            if form.why and self.remark is not None:
                self.remark(f"{self.name}: is read as {form.content}: {form.why}; format='txt' takes it as one text")
            # Only line feeds end a line: U+2028 and others stand inside of strings; a mark of byte order is no text.
            newline = "" if form.content in ("csv", "tsv") else "\n"
            errors = "surrogateescape" if self.lenient else "strict"  # the row that has such a byte is the bad one
            text = io.TextIOWrapper(plain, encoding="utf-8-sig", errors=errors, newline=newline)
            yield from self._decoded(text, form.content)

    def _decoded(self, text: TextIO, content: str | None) -> Iterator[Row]:
        if content == "txt":
            return text_rows(text, self.split)
        if content == "jsonl":
            return jsonl_rows(text, self.name, self.field, self.lenient)
        if content == "json":
            return json_rows(text, self.name, self.field, self.lenient)
        return table_rows(text, self.name, self.field, "," if content == "csv" else "\t", self.lenient)


class _FromFirstLine(io.RawIOBase):
    """A stream that tells how much of it is read, and whose first piece holds enough to tell what it is.

    That is a whole line with more in it than a bracket, where there is one that is not very long.
    """

    def __init__(self, stream: Any, told: Told = lambda count: None) -> None:
        self._told = told
        self._read = getattr(stream, "read1", stream.read)
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._read(len(buffer))
        if not self._begun:
            while not _tells(data) and (more := self._read(len(buffer) - len(data))):
                data += more
            self._begun = True
        buffer[: len(data)] = data
        self._told(len(data))
        return len(data)


def _tells(data: bytes) -> bool:
    """Whether there is a whole line, or its end, with more in it than space and a bracket."""
    first = _TELLING.search(data)
    return first is not None and data.find(b"\n", first.end()) >= 0


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as problem:
        bad = problem.object[problem.start]
        raise InputError(f"{name}: is no UTF-8 text (it holds the byte {bad:#04x}); convert it first") from None
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as problem:
        raise InputError(f"{name}: cannot be unpacked ({problem}); it is cut off or damaged: fetch it again") from None
    except OSError as problem:
        raise InputError(f"{name}: cannot be read ({problem.strerror}); check its permissions") from None


def _guarded(parts: Iterable[str], name: str) -> Iterator[str]:
    """Parts are read by somebody else: what is wrong with them is said here."""
    with _read_errors(name):
        yield from parts
