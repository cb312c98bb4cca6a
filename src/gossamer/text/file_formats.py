"""How a file of texts is written: told by its ending, by its reader, or, where neither says, by how it begins."""

import csv
import lzma
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from gzip import GzipFile
from importlib.util import find_spec
from io import RawIOBase
from typing import Any, BinaryIO

from gossamer.errors import InputError, quote

__all__ = ["FORMATS", "FileFormat", "check_format", "detect_format", "format_of_name", "unpack"]

FORMATS = ("txt", "jsonl", "json", "csv", "tsv", "parquet")
_ENDINGS = {".txt": "txt", ".md": "txt", **{f".{name}": name for name in FORMATS}}
_MODULES = {"parquet": "pyarrow", "zst": "zstandard"}
_CHUNK = 2**17

_PACKED = {b"\x1f\x8b": "gz", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_FOREIGN = {
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\x93NUMPY": "a numpy array",
    b"PAR1": "a parquet file, which is read by its name in .parquet alone",
}
_OBJECT = re.compile(r'\s*\{\s*"(?:[^"\\\n]|\\.)*"\s*:')
_ARRAY = re.compile(r'\s*\[\s*(?:\{\s*"(?:[^"\\\n]|\\.)*"\s*:|"(?:[^"\\]|\\.)*"\s*[,\]])')


@dataclass(frozen=True)
class FileFormat:
    """What is in a file. content: one of FORMATS, None where only a look inside tells; packing: "", "gz", "xz", "zst".

    why: what told the content, where that was neither an ending nor the reader.
    """

    content: str | None
    packing: str = ""
    why: str = ""


def check_format(format: str | None) -> None:
    """Refuse a format that is none."""
    if format is not None and format not in FORMATS:
        raise InputError(f"format is {quote(format)}; it must be one of {', '.join(map(repr, FORMATS))}, or None")


def format_of_name(name: str, format: str | None = None) -> FileFormat:
    """The format of a file by its ending, or the one that its reader names. InputError for one that is not read.

    A name without an ending tells nothing: `detect_format` looks inside.
    """
    stem, packing = name, ""
    if _ending(stem)[1:] in ("gz", "xz", "zst"):
        packing = _ending(stem)[1:]
        stem = stem[: -len(packing) - 1]
    ending = _ending(stem)
    content = format or _ENDINGS.get(ending)
    if content is None and ending:
        raise InputError(
            f"{name}: {quote(ending)} is no format that is read ({', '.join(_ENDINGS)}, and with .gz, .xz or .zst "
            "behind it); convert it to text first, or, if it is one of these by content, say so with format='txt'"
        )
    _check_installed(name, *filter(None, (content, packing)))
    if content == "parquet" and packing:
        raise InputError(f"{name}: a parquet file is read from anywhere in it, so not packed; unpack it first")
    return FileFormat(content, packing)


def detect_format(name: str, head: bytes, field: str | None, packing: str = "") -> FileFormat:
    """The format of what begins with `head` (its first line, if that is no very long one) and has no ending.

    JSON is known by its first object or array of texts, a table by a first line with a column named `field`, packed
    data by their magic numbers; what is left is one text. InputError for what is known to be no text.
    """
    for magic, kind in _PACKED.items():
        if head.startswith(magic) and not packing:
            _check_installed(name, kind)
            return FileFormat(None, kind)
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise InputError(f"{name}: is {what}; convert it to text first")
    text = head.decode("utf-8-sig", errors="ignore")
    line, end, _ = text.partition("\n")
    if _OBJECT.match(text):
        by_lines = not end or line.rstrip().endswith("}")
        return FileFormat("jsonl" if by_lines else "json", packing, "it begins with a JSON object")
    if _ARRAY.match(text):
        return FileFormat("json", packing, "it begins with a JSON array")
    for content, delimiter in (("tsv", "\t"), ("csv", ",")):
        columns = _cells(line, delimiter)
        if len(columns) > 1 and field in columns:
            return FileFormat(content, packing, f"its first line names a column {field!r}")
    return FileFormat("txt", packing)


def _cells(line: str, delimiter: str) -> list[str]:
    """As the reader of tables will cut the line; none where it could not."""
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def unpack(data: BinaryIO, packing: str) -> Any:
    """A context whose value reads the unpacked bytes, as they are asked for."""
    ways: dict[str, Callable[[BinaryIO], Any]] = {
        "": nullcontext,
        "gz": lambda packed: GzipFile(fileobj=packed),
        "xz": lzma.LZMAFile,
        "zst": _Zstandard,
    }
    return ways[packing](data)


def _ending(name: str) -> str:
    ending = re.search(r"(?<=[^./])\.[^./\s]+$", name)
    return ending[0].lower() if ending else ""


def _check_installed(name: str, *kinds: str) -> None:
    for kind in kinds:
        if kind in _MODULES and find_spec(_MODULES[kind]) is None:
            raise InputError(f"{name}: {kind} is read by {_MODULES[kind]}; install it: pip install 'gossamer[data]'")


class _Zstandard(RawIOBase):
    """Frames of Zstandard, one behind the other. EOFError where the last one is cut off, as in gzip."""

    def __init__(self, data: BinaryIO) -> None:
        from zstandard import ZstdDecompressor, ZstdError

        self._data, self._new, self._error = data, ZstdDecompressor().decompressobj, ZstdError
        self._frame: Any = None
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready and (packed := self._rest() or self._data.read(_CHUNK)):
            if self._frame is None or self._frame.eof:
                self._frame = self._new()
            try:
                self._ready = self._frame.decompress(packed)
            except self._error as problem:
                raise EOFError(str(problem)) from None
        if not self._ready and self._frame is not None and not self._frame.eof:
            raise EOFError("it ends before its end marker")
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _rest(self) -> bytes:
        """What came behind the end of a frame."""
        return bytes(self._frame.unused_data) if self._frame is not None and self._frame.eof else b""
