"""Rows in memory: a sequence of dicts that a run reads in place of files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gossamer.errors import InputError, quote
from gossamer.text import Document, Split, read_documents

__all__ = [
    "EVALUATION_ROWS",
    "FILES",
    "IN_MEMORY",
    "ROWS",
    "DataSources",
    "RowSequence",
    "as_document",
    "check_rows",
    "rows_of_table",
    "with_names",
]

ROWS, EVALUATION_ROWS = "<rows>", "<evaluation rows>"
IN_MEMORY = (ROWS, EVALUATION_ROWS)
"""What stands in a config for rows that are handed to `train`."""


class RowSequence(Protocol):
    """Rows by their numbers from 0, each a mapping of columns: a list of dicts, a `datasets.Dataset`, a table's."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class DataSources:
    """Where the documents of a run's inputs come from: files, or the rows that were handed in their place."""

    rows: RowSequence | None = None
    evaluation_rows: RowSequence | None = None

    def __post_init__(self) -> None:
        for name in ("rows", "evaluation_rows"):
            object.__setattr__(self, name, rows_of_table(getattr(self, name)))
            check_rows(name, getattr(self, name))

    @property
    def given(self) -> dict[str, RowSequence | None]:
        """What `train` is handed."""
        return {"rows": self.rows, "evaluation_rows": self.evaluation_rows}

    @property
    def changes(self) -> dict[str, str]:
        """The settings of a config that name these rows."""
        settings = {"data.train": (ROWS, self.rows), "evaluation.data": (EVALUATION_ROWS, self.evaluation_rows)}
        return {field: name for field, (name, rows) in settings.items() if rows is not None}

    def check(self, field: str, inputs: tuple[str, ...]) -> None:
        """InputError where a config's field names rows that are not here."""
        for name, argument in zip(IN_MEMORY, ("rows", "evaluation_rows"), strict=True):
            if name in inputs and getattr(self, argument) is None:
                raise InputError(f"{field} is missing; name files, or hand {argument} to train()")

    def documents(
        self, inputs: tuple[str, ...], *, field: str | None, split: Split = "file", format: str | None = None
    ) -> Iterator[Document]:
        """All documents of all inputs; see `gossamer.text.read_documents`."""
        rows = {ROWS: self.rows, EVALUATION_ROWS: self.evaluation_rows}.get(inputs[0])
        if rows is None:
            yield from read_documents(inputs, field=field, split=split, format=format)
            return
        for i in range(len(rows)):
            yield as_document(inputs[0].strip("<>"), i, rows[i], field)


def rows_of_table(rows: Any) -> Any:
    """The rows of a pandas or polars data frame or of a pyarrow table, a dict each; all else as it is."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(rows).__mro__}
    if ("pandas", "DataFrame") in kinds:
        return rows.to_dict("records")
    if ("polars", "DataFrame") in kinds:
        return rows.to_dicts()
    return rows.to_pylist() if ("pyarrow", "Table") in kinds else rows


def check_rows(name: str, rows: object) -> None:
    """InputError for what is no sequence of rows, or has none."""
    if rows is None:
        return
    is_sequence = hasattr(rows, "__len__") and hasattr(rows, "__getitem__")
    if not is_sequence or isinstance(rows, str | bytes | Mapping):
        raise InputError(f"{name} is {quote(rows)}; give a sequence of dicts, such as a list or a datasets.Dataset")
    if not len(rows):  # type: ignore[arg-type]
        raise InputError(f"{name}: there are no rows; give some")


def with_names(name: str, rows: Any) -> RowSequence | None:
    """The rows, with names in place of the numbers of their labels where their `features` tell them.

    So do those of a `datasets.Dataset`: of one label or of a list of them.
    """
    rows = rows_of_table(rows)
    check_rows(name, rows)
    features = getattr(rows, "features", None)
    names = {
        str(column): tuple(map(str, told))
        for column, feature in (features.items() if isinstance(features, Mapping) else ())
        if (told := getattr(getattr(feature, "feature", feature), "names", None))
    }
    named: RowSequence | None = _NamedLabels(rows, names) if names else rows
    return named


@dataclass(frozen=True)
class _NamedLabels:
    rows: RowSequence
    names: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int, /) -> Any:
        row = self.rows[i]
        return {name: self._named(name, value) for name, value in row.items()} if isinstance(row, Mapping) else row

    def _named(self, column: str, value: Any) -> Any:
        names = self.names.get(column, ())
        if isinstance(value, list):
            return [self._named(column, one) for one in value]
        return names[value] if type(value) is int and 0 <= value < len(names) else value


def as_document(source: str, i: int, row: Any, field: str | None) -> Document:
    """Row i as a file's row would be read: numbered from 1, its text, where one is asked for, apart from its fields."""
    where = f"{source}:{i + 1}"
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: is {quote(row)}; each row must be a dict of columns")
    fields = {str(name): _plain(value) for name, value in row.items()}
    text = [] if field is None else [fields.pop(field, None)]
    if not all(isinstance(one, str) for one in text):
        has = f"is {quote(text[0])}" if field in row else f"is missing (it has: {', '.join(fields)[:80]})"
        raise InputError(f"{where}: the field {field!r} {has}; name the field that holds the text")
    return Document(source=source, number=i + 1, parts=text, fields=fields)


def _plain(value: Any) -> Any:
    """A value as a file of JSON would have it: numpy's numbers and arrays are Python's, tuples are lists."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


FILES = DataSources()
"""No rows in memory."""
