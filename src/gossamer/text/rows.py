"""Texts out of an open file, one row or one piece at a time, with the other fields of their row."""

import csv
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, Literal, TextIO

from gossamer.errors import InputError, quote

__all__ = ["Row", "Split", "json_rows", "jsonl_rows", "parquet_rows", "table_rows", "text_rows"]

Split = Literal["file", "lines", "paragraphs"]
Row = tuple[int, Iterable[str], Mapping[str, Any]]
"""Where a text begins (its line or row, from 1; 0 for a whole file), its parts, and the other fields of its row."""

Cells = tuple[Iterable[str], Mapping[str, Any]]
"""Its parts and other fields."""

CHUNK = 2**17
_REMEDY = "name the field that holds the text"
_CSV_LIMIT = threading.Lock()


def text_rows(text: TextIO, split: Split) -> Iterator[Row]:
    """A file of plain text: all of it, in pieces, or its lines or paragraphs."""
    if split == "file":
        yield 0, iter(lambda: text.read(CHUNK), ""), {}
    elif split == "lines":
        yield from ((number, [line.rstrip("\r\n")], {}) for number, line in _lines(text))
    else:
        yield from _paragraphs(text)


def jsonl_rows(text: TextIO, name: str, field: str | None, lenient: bool = False) -> Iterator[Row]:
    """An object a line, its text in `field`; None: no text, all fields. lenient: bad rows are refused when read."""
    for number, line in _lines(text):
        yield number, *_either(partial(_jsonl_row, line, field, f"{name}:{number}"), lenient)


def _jsonl_row(line: str, field: str | None, where: str) -> Cells:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"{where}: is no JSON ({problem}); each line must be an object") from None
    if not isinstance(value, dict):
        having = "" if field is None else f" with the field {field!r}"
        raise InputError(f"{where}: is {quote(value)}; each line must be an object{having}")
    return _parts(value, field, where)


def json_rows(text: TextIO, name: str, field: str | None, lenient: bool = False) -> Iterator[Row]:
    """The elements of one array, texts or objects with the text in `field`; or objects, one behind the other."""
    number = 0
    try:
        for number, value in enumerate(_JsonValues(text, name), 1):
            yield number, *_either(partial(_json_row, value, field, f"{name}:{number}"), lenient)
    except (UnicodeDecodeError, InputError):
        raise
    except (ValueError, RecursionError) as problem:
        where = f"{name}:{number + 1}" if number else name
        raise InputError(f"{where}: is no JSON ({problem}); it must be an array of texts or objects") from None


def _json_row(value: Any, field: str | None, where: str) -> Cells:
    if isinstance(value, str):
        return [value], {}
    if isinstance(value, dict):
        return _parts(value, field, where)
    raise InputError(f"{where}: is {quote(value)}; each element must be a text, or an object with one")


def table_rows(text: TextIO, name: str, field: str | None, delimiter: str, lenient: bool = False) -> Iterator[Row]:
    """Rows of .csv or .tsv under a line that names the columns, quoted as Python's csv writes them."""
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    columns = _next_row(reader, name) or []
    if field is not None and columns.count(field) != 1:
        problem = f"has no column {field!r}" if field not in columns else f"has several columns {field!r}"
        raise InputError(f"{name}: {problem} in its first line (it has: {', '.join(columns)[:80]}); {_REMEDY}")
    while True:
        line = reader.line_num + 1
        cells = _next_row(reader, name)
        if cells is None:
            return
        if not cells:
            continue
        yield line, *_either(partial(_table_row, columns, cells, field, f"{name}:{line}"), lenient)


def _table_row(columns: list[str], cells: list[str], field: str | None, where: str) -> Cells:
    if len(cells) != len(columns):
        raise InputError(f"{where}: has {len(cells)} cells, the first line {len(columns)}; mend the row")
    return _parts(dict(zip(columns, cells, strict=True)), field, where)


def parquet_rows(
    data: BinaryIO, name: str, field: str | None, told: Callable[[float], None], lenient: bool = False
) -> Iterator[Row]:
    """Rows of a parquet file, a few at a time; told: called with the share of them that is read."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(data)
        columns = table.schema_arrow.names
        if field is not None and field not in columns:
            raise InputError(f"{name}: has no column {field!r} (it has: {', '.join(columns)[:80]}); {_REMEDY}")
        number = 0
        for batch in table.iter_batches(batch_size=64):
            for values in batch.to_pylist():
                number += 1
                parts, others = _either(partial(_parts, values, field, f"{name}:{number}"), lenient)
                yield number, parts, {key: _as_json(value) for key, value in others.items()}
            told(number / max(table.metadata.num_rows, 1))
    except ArrowException as problem:
        raise InputError(f"{name}: cannot be read as parquet ({problem}); it is damaged: fetch it again") from None


def _lines(text: TextIO) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text, 1):
        if line.strip():
            yield number, line


def _paragraphs(text: TextIO) -> Iterator[Row]:
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


def _text_of(values: Mapping[str, Any], field: str, where: str) -> str:
    value = values.get(field)
    if not isinstance(value, str):
        problem = f"is {quote(value)}" if field in values else f"is missing (it has: {', '.join(values)[:80]})"
        raise InputError(f"{where}: the field {field!r} {problem}; {_REMEDY}")
    return value


def _either(read: Callable[[], Cells], lenient: bool) -> Cells:
    """A row; or, where it may be bad, one whose parts say so when somebody reads them."""
    try:
        return read()
    except InputError as problem:
        if not lenient:
            raise
        return _refused(problem), {}


def _refused(problem: InputError) -> Iterator[str]:
    raise problem
    yield ""


def _parts(values: Mapping[str, Any], field: str | None, where: str) -> Cells:
    """A row's text, none where no field has one, and its other fields."""
    texts = [] if field is None else [_text_of(values, field, where)]
    return texts, {name: value for name, value in values.items() if name != field}


def _as_json(value: Any) -> Any:
    """A value of a table with types of its own, as JSON has it."""
    if isinstance(value, dict):
        return {str(name): _as_json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_json(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _next_row(reader: Any, name: str) -> list[str] | None:
    """The cells of the next row, None after the last one."""
    line = reader.line_num + 1
    try:
        with _cells_of_any_length():
            return next(reader, None)
    except csv.Error as problem:
        raise InputError(
            f"{name}:{line}: is no row of a table ({problem}); mend its quotes, or the file's end"
        ) from None


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """The module's limit, 131,072 characters, is the whole process's, and others' to set."""
    with _CSV_LIMIT:
        before = csv.field_size_limit(2**31 - 1)
        try:
            yield
        finally:
            csv.field_size_limit(before)


class _JsonValues:
    """The elements of an array, or values one behind the other, with one of them in memory at a time."""

    def __init__(self, text: TextIO, name: str) -> None:
        self._text, self._name = text, name
        self._decoder = json.JSONDecoder()
        self._buffer, self._at, self._ended = "", 0, False

    def __iter__(self) -> Iterator[Any]:
        if self._next_sign() != "[":
            while self._next_sign():
                yield self._value()
            return
        self._at += 1
        if self._next_sign() != "]":
            yield self._value()
            while self._next_sign() == ",":
                self._at += 1
                yield self._value()
        if self._next_sign() != "]":
            raise self._problem("Expecting ',' or ']'")
        self._at += 1
        if self._next_sign():
            raise self._problem("Extra data")

    def _next_sign(self) -> str:
        """The next character that is no white space, "" at the end; it is not taken."""
        while True:
            self._at = self._spaces(self._at)
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if self._ended:
                return ""
            self._read()

    def _spaces(self, at: int) -> int:
        spaces = re.compile(r"\s*").match(self._buffer, at)
        return spaces.end() if spaces else at

    def _value(self) -> Any:
        self._next_sign()
        while True:
            try:
                value, self._at = self._decoder.raw_decode(self._buffer, self._at)
                return value
            except json.JSONDecodeError as problem:
                open_ended = problem.msg.startswith("Unterminated") or problem.pos > len(self._buffer) - 16
                if self._ended or not open_ended:
                    raise
            self._read()

    def _read(self) -> None:
        """More of the file: as much again as is waiting, so that a long value is looked at few times."""
        waiting = self._buffer[self._at :]
        more = self._text.read(max(CHUNK, len(waiting)))
        self._buffer, self._at, self._ended = waiting + more, 0, not more

    def _problem(self, message: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(message, self._buffer, self._at)
