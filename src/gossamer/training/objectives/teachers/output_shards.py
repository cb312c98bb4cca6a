"""What a teacher gives for many rows, on disk in parquet: shards that are there whole or not at all, read in groups."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gossamer.atomic_files import write_whole
from gossamer.checkpoints.files import reason
from gossamer.errors import GossamerError, InputError

__all__ = ["KEPT_BYTES", "Column", "OutputShards", "cut_into_shards", "require_pyarrow"]

SHARD_BYTES, SHARD_ROWS = 2**24, 512
"""Of one file at most, unless a row alone is larger: so that a kill costs no more of the teacher's work."""
GROUP_BYTES = 2**18
"""Of the rows that are read and unpacked together, about: they are as many in all files."""
KEPT_BYTES = 2**28
"""Of rows that were read and stay in memory."""
_OPEN_FILES = 32
_KEY = "key"

Dtype = Literal["float32", "float16", "int32"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is held of each row: `width` numbers, or as many for each of its tokens."""

    name: str
    width: int
    of_tokens: bool
    dtype: Dtype

    @property
    def item_bytes(self) -> int:
        """Of a token, or of a row."""
        return self.width * np.dtype(self.dtype).itemsize

    def row_bytes(self, tokens: np.ndarray) -> np.ndarray:
        """Of rows with so many tokens each, int64 [rows]."""
        return self.item_bytes * (tokens.astype(np.int64) if self.of_tokens else np.ones(len(tokens), dtype=np.int64))


def cut_into_shards(row_bytes: np.ndarray, most_bytes: int, most_rows: int) -> np.ndarray:
    """After which rows a file ends, int64 [files]: as full as they may be, but with one row at least.

    row_bytes: what each row takes, int64 [rows].
    """
    together, ends = row_bytes.cumsum(), [0]
    while ends[-1] < len(row_bytes):
        start = ends[-1]
        before = together[start - 1] if start else 0
        fitting = int(np.searchsorted(together, before + most_bytes, side="right"))
        ends.append(min(max(fitting, start + 1), start + most_rows))
    return np.array(ends[1:], dtype=np.int64)


def require_pyarrow() -> None:
    """InputError where parquet cannot be written."""
    if find_spec("pyarrow") is None:
        raise InputError(
            "cache: a teacher's outputs are written in parquet by pyarrow; install it: pip install 'gossamer[data]'"
        )


@dataclass(frozen=True, kw_only=True)
class OutputShards:
    """The files of rows with these columns in a folder, `group_rows` to a group.

    ends: after which row each file ends. identity: of what the rows were made with; it stands in every file. Groups
    that were read stay in memory up to `KEPT_BYTES`; what was read longest ago goes first.
    """

    folder: Path
    columns: tuple[Column, ...]
    ends: np.ndarray
    group_rows: int
    identity: str
    _files: OrderedDict[int, Any] = field(init=False, default_factory=OrderedDict, repr=False)
    _groups: _KeptGroups = field(init=False, default_factory=lambda: _KeptGroups(), repr=False)

    @property
    def count(self) -> int:
        """How many files there are when all are written."""
        return len(self.ends)

    @property
    def rows(self) -> int:
        """In all files."""
        return int(self.ends[-1])

    def shard_of(self, number: int) -> int:
        """In which file the row of this number is."""
        return int(np.searchsorted(self.ends, number, side="right"))

    def path(self, shard: int) -> Path:
        return self.folder / f"part-{shard:05d}.parquet"

    def numbers(self, shard: int) -> range:
        """The numbers of a file's rows."""
        return range(int(self.ends[shard - 1]) if shard else 0, int(self.ends[shard]))

    def missing(self) -> list[int]:
        """Files that are still to be written; InputError for one that is damaged or of another cache."""
        there = [shard for shard in range(self.count) if self.path(shard).exists()]
        for shard in there:
            self._open(shard)
        return sorted(set(range(self.count)) - set(there))

    def write(self, shard: int, keys: Sequence[bytes], rows: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Write a file: flushed to the disk before it has its name. GossamerError where it cannot be written."""
        import pyarrow as pa
        from pyarrow import parquet

        arrays = {_KEY: pa.array(keys, pa.binary(len(keys[0])))}
        for column in self.columns:
            arrays[column.name] = _lists([row[column.name] for row in rows], column)
        fields = [pa.field(name, one.type, nullable=False) for name, one in arrays.items()]
        schema = pa.schema(fields, metadata={"gossamer": self.identity})
        table = pa.Table.from_arrays(list(arrays.values()), schema=schema)
        try:
            write_whole(
                self.path(shard),
                lambda file: parquet.write_table(
                    table, file, row_group_size=self.group_rows, compression="none", use_dictionary=False,
                    write_statistics=False, write_page_checksum=True,
                ),
            )  # fmt: skip
        except OSError as problem:
            raise GossamerError(
                f"{self.path(shard)}: {reason(problem)}; free some space, then run the same command to go on"
            ) from problem

    def read(self, keys: Sequence[bytes], numbers: Sequence[int]) -> list[dict[str, np.ndarray]]:
        """The rows of these numbers, each array [width] or [tokens, width], which have to have these keys."""
        found = []
        for key, number in zip(keys, numbers, strict=True):
            shard = self.shard_of(number)
            place = number - self.numbers(shard).start
            group = self._group(shard, place // self.group_rows)
            within = place % self.group_rows
            if group.keys[within] != key:
                raise self._damaged(shard, "its rows are others")
            found.append(group.row(within))
        return found

    def _group(self, shard: int, number: int) -> _Group:
        from pyarrow import ArrowException

        group = self._groups.get((shard, number))
        if group is None:
            try:
                table = self._open(shard).read_row_group(number, use_threads=False)
                group = _Group.of(table, self.columns)
            except (ArrowException, OSError, ValueError) as problem:
                raise self._damaged(shard, reason(problem)) from None
            self._groups.add((shard, number), group)
        return group

    def _open(self, shard: int) -> Any:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        files = self._files
        if shard not in files:
            while len(files) >= _OPEN_FILES:
                files.popitem(last=False)[1].close()
            try:
                file = ParquetFile(self.path(shard), memory_map=True, page_checksum_verification=True)
            except (ArrowException, OSError) as problem:
                raise self._damaged(shard, reason(problem)) from None
            self._check(file, shard)
            files[shard] = file
        files.move_to_end(shard)
        return files[shard]

    def _check(self, file: Any, shard: int) -> None:
        told = (file.schema_arrow.metadata or {}).get(b"gossamer", b"").decode(errors="replace")
        if told != self.identity:
            raise self._damaged(shard, "it belongs to another cache")
        if file.metadata.num_rows != len(self.numbers(shard)):
            raise self._damaged(shard, f"it has {file.metadata.num_rows:,} rows, not {len(self.numbers(shard)):,}")

    def _damaged(self, shard: int, why: str) -> InputError:
        return InputError(f"{self.path(shard)}: is no part of this cache ({why}); remove it, and it is written again")


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Rows that were unpacked together: of each column its numbers [all, width], and where each row's end."""

    keys: list[bytes]
    values: dict[str, tuple[np.ndarray, np.ndarray | None]]

    @classmethod
    def of(cls, table: Any, columns: Iterable[Column]) -> _Group:
        values = {}
        for column in columns:
            array = table[column.name].combine_chunks()
            numbers = array.flatten().to_numpy(zero_copy_only=False).astype(column.dtype, copy=True)
            ends = np.asarray(array.offsets, dtype=np.int64) // column.width
            values[column.name] = numbers.reshape(-1, column.width), ends - ends[0] if column.of_tokens else None
        return cls(keys=table[_KEY].to_pylist(), values=values)

    @property
    def size(self) -> int:
        return sum(numbers.nbytes for numbers, _ in self.values.values())

    def row(self, i: int) -> dict[str, np.ndarray]:
        return {
            name: numbers[i] if ends is None else numbers[ends[i] : ends[i + 1]]
            for name, (numbers, ends) in self.values.items()
        }


class _KeptGroups:
    """Groups that were read, the last ones up to `KEPT_BYTES`."""

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[int, int], _Group] = OrderedDict()
        self._size = 0

    def get(self, place: tuple[int, int]) -> _Group | None:
        if place in self._groups:
            self._groups.move_to_end(place)
        return self._groups.get(place)

    def add(self, place: tuple[int, int], group: _Group) -> None:
        self._groups[place] = group
        self._size += group.size
        while self._size > KEPT_BYTES and len(self._groups) > 1:
            self._size -= self._groups.popitem(last=False)[1].size


def _lists(rows: Sequence[np.ndarray], column: Column) -> Any:
    """A list of numbers for each row."""
    import pyarrow as pa

    flat = [np.ascontiguousarray(row, dtype=column.dtype).reshape(-1) for row in rows]
    offsets = np.cumsum([0, *map(len, flat)], dtype=np.int32)
    kind = pa.from_numpy_dtype(np.dtype(column.dtype))
    values = pa.array(np.concatenate(flat), kind)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=pa.list_(pa.field("item", kind, nullable=False)))
