"""Documents from files: text, JSON lines, either of them packed by gzip or xz, and the speeches of the package."""

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from gossamer.errors import InputError, quote
from gossamer.text.speeches import speeches

__all__ = ["Document", "Split", "input_bytes", "read_documents"]

Split = Literal["file", "lines", "paragraphs"]
SPEECHES = "speeches"
CHUNK = 2**17

Found = Iterator[tuple[int, Iterable[str], Mapping[str, Any]]]
"""Documents of one file: the line that each begins in, its parts, and the other fields of its row."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text in parts, which are read once, in order, before the next document is asked for.

    source: the file. number: its line there, from 1; 0 for a whole file. fields: the others of its row.
    """

    source: str
    number: int = 0
    parts: Iterable[str]
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Where it is from: `speech.txt`, `speeches.jsonl:3`."""
        return f"{self.source}:{self.number}" if self.number else self.source


def read_documents(
    inputs: Sequence[str | Path],
    *,
    field: str = "text",
    split: Split = "file",
    told: Callable[[int], None] = lambda count: None,
) -> Iterator[Document]:
    """All documents of all inputs, in their order; memory holds one line, or a piece of a whole file, at a time.

    An input is a file of UTF-8 text, a .jsonl file (one object a line, its text in `field`), either with .gz or .xz
    behind it, or the word `speeches` for those of the package. split: what a document of a text file is: the whole
    "file", each of its "lines", or "paragraphs" (what stands between blank lines); blank ones are left out. told: is
    called with the number of bytes whenever some were read. Raises InputError for what cannot be read.
    """
    if split not in get_args(Split):
        raise InputError(f"split is {quote(split)}; it must be one of {', '.join(map(repr, get_args(Split)))}")
    input_bytes(inputs)
    return _every(inputs, field, split, told)


def input_bytes(inputs: Sequence[str | Path]) -> int:
    """The size of all inputs, as `read_documents` tells it; InputError where one is missing or no file."""
    if isinstance(inputs, str | Path) or not inputs:
        raise InputError(f"the inputs are {quote(inputs)}; give a list of one file or more")
    return sum(_bytes_of(one) for one in inputs)


def _bytes_of(one: str | Path) -> int:
    if one == SPEECHES:
        return sum(len(speech.text.encode()) for speech in speeches())
    path = Path(one)
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a directory; name its files, such as {path}/*.txt")
        return path.stat().st_size
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name a text or .jsonl file, or {SPEECHES!r}") from None
    except (OSError, ValueError) as problem:
        raise InputError(f"{quote(str(path))} cannot be read ({problem}); name another file") from None


def _every(inputs: Sequence[str | Path], field: str, split: Split, told: Callable[[int], None]) -> Iterator[Document]:
    for one in inputs:
        if one == SPEECHES:
            for number, speech in enumerate(speeches(), 1):
                yield Document(source=SPEECHES, number=number, parts=[speech.text])
                told(len(speech.text.encode()))
        else:
            yield from _read(Path(one), field, split, told)


def _read(path: Path, field: str, split: Split, told: Callable[[int], None]) -> Iterator[Document]:
    name = str(path)
    packing = path.suffix if path.suffix in _UNPACK else ""
    as_lines = Path(name.removesuffix(packing)).suffix == ".jsonl"
    with _read_errors(name), _Counted(name, told) as raw, _unpacked(raw, packing) as text:
        if as_lines:
            found: Found = ((number, *_fields(line, field, f"{name}:{number}")) for number, line in _lines(text))
        else:
            found = _SPLITS[split](text)
        for number, parts, fields in found:
            yield Document(source=name, number=number, parts=_guarded(parts, name), fields=fields)


class _Counted(io.FileIO):
    """A file that tells how much of it is read."""

    def __init__(self, name: str, told: Callable[[int], None]) -> None:
        super().__init__(name)
        self._told = told

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer) or 0
        self._told(count)
        return count


@contextmanager
def _unpacked(raw: io.FileIO, packing: str) -> Iterator[TextIO]:
    """Only line feeds end a line: U+2028 and others stand inside of strings; a mark of byte order is no text."""
    with io.BufferedReader(raw, CHUNK) as data, _UNPACK[packing](data) as plain:
        yield io.TextIOWrapper(plain, encoding="utf-8-sig", newline="\n")


_UNPACK: dict[str, Callable[[Any], Any]] = {
    "": nullcontext,
    ".gz": lambda data: gzip.GzipFile(fileobj=data),
    ".xz": lzma.LZMAFile,
}


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


def _lines(text: TextIO) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, line


def _split_file(text: TextIO) -> Found:
    yield 0, iter(lambda: text.read(CHUNK), ""), {}


def _split_lines(text: TextIO) -> Found:
    for number, line in _lines(text):
        yield number, [line.rstrip("\r\n")], {}


def _split_paragraphs(text: TextIO) -> Found:
    start, lines = 0, []
    for number, line in enumerate(text, 1):
        if line.strip():
            start = start or number
            lines.append(line)
        elif lines:
            yield start, ["".join(lines).rstrip("\r\n")], {}
            start, lines = 0, []
    if lines:
        yield start, ["".join(lines).rstrip("\r\n")], {}


_SPLITS: dict[str, Callable[[TextIO], Found]] = {
    "file": _split_file,
    "lines": _split_lines,
    "paragraphs": _split_paragraphs,
}


def _fields(line: str, field: str, where: str) -> tuple[list[str], dict[str, Any]]:
    """The text of a row, and its other fields."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"{where}: is no JSON ({problem}); each line must be an object") from None
    if not isinstance(data, dict):
        raise InputError(f"{where}: is {quote(data)}; each line must be an object with the field {field!r}")
    value = data.get(field)
    if not isinstance(value, str):
        found = f"is {quote(value)}" if field in data else f"is missing (it has: {', '.join(data)[:80]})"
        raise InputError(f"{where}: the field {field!r} {found}; name the field that holds the text")
    return [value], {name: other for name, other in data.items() if name != field}
