"""Files of vectors that grow row by row: whole in the end, and after an interrupt whole as far as they came."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gossamer.atomic_files import beside, open_whole, put_whole, write_errors
from gossamer.cli.output import json_line, note
from gossamer.errors import plural

if TYPE_CHECKING:
    import numpy as np

__all__ = ["VectorFile", "map_of", "open_vectors"]

HEADER = 128
"""Bytes before the numbers of a .npy file, whatever its number of rows."""


def map_of(out: Path) -> Path:
    """The file beside a .npy file that says of each of its rows which text and characters it stands for."""
    return out.with_suffix(".spans.jsonl")


class VectorFile:
    """A .npy or .jsonl file under way."""

    def __init__(self, out: Path, stream: BinaryIO, rows_stream: BinaryIO | None) -> None:
        self.rows = self.texts = 0
        self._out, self._stream, self._rows_stream = out, stream, rows_stream
        self._size = 0
        self._ends = (0, 0)
        """Where the last complete row ends, here and in the map."""

    def add(self, vectors: np.ndarray, rows: Sequence[Mapping[str, Any]], is_last: bool) -> None:
        """Vectors [rows, size] in float32, and what is said of each."""
        with write_errors(self._out):
            if self._out.suffix == ".npy":
                self._add_numbers(vectors, rows)
            else:
                for vector, row in zip(vectors, rows, strict=True):
                    _write_line(self._stream, {**row, "vector": vector.tolist()})
            self._ends = (self._stream.tell(), self._rows_stream.tell() if self._rows_stream else 0)
        self.rows += len(rows)
        self.texts += is_last

    def finish(self) -> None:
        """Leave complete rows alone, and let the header tell their number."""
        with write_errors(self._out):
            for stream, end in zip((self._stream, self._rows_stream), self._ends, strict=True):
                if stream is not None:
                    stream.seek(end)
                    stream.truncate()
            if self._out.suffix == ".npy":
                self._stream.seek(0)
                self._stream.write(_header(self.rows, self._size))

    def _add_numbers(self, vectors: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
        if not self._stream.tell():
            self._size = vectors.shape[1]
            self._stream.write(_header(0, self._size))
        self._stream.write(vectors.astype("<f4", copy=False).tobytes())
        for i, row in enumerate(rows, self.rows):
            if self._rows_stream is not None:
                _write_line(self._rows_stream, {"row": i, **row})


@contextmanager
def open_vectors(out: Path) -> Iterator[VectorFile]:
    """A file to add vectors to, which is there at the end of the block; a .npy file gets its map beside it.

    Where the block ends early, by an interrupt or an error, the finished rows stay, which a note says: under this name,
    or, where it was somebody's before, under another one beside it.
    """
    paths = [out, map_of(out)] if out.suffix == ".npy" else [out]
    early: BaseException | None = None
    with ExitStack() as names:
        with write_errors(out):
            new = [names.enter_context(beside(path.resolve())) for path in paths]
        with ExitStack() as files:
            streams = [files.enter_context(_opened(*pair)) for pair in zip(new, paths, strict=True)]
            file = VectorFile(out, streams[0], streams[1] if len(streams) > 1 else None)
            try:
                yield file
            except OSError:
                raise
            except BaseException as problem:
                if not file.rows:
                    raise
                early = problem
            file.finish()
        targets = paths if early is None else _free(paths, out)
        with write_errors(out):
            for each, target in zip(reversed(new), reversed(targets), strict=True):  # the vectors last
                put_whole(each, target)
    if early is not None:
        note(f"{plural(file.rows, 'vector')} of {plural(file.texts, 'text')} are finished and in {targets[0]}")
        raise early


@contextmanager
def _opened(new: Path, path: Path) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        with write_errors(path):
            stream = stack.enter_context(open_whole(new, path))
        yield stream


def _free(paths: list[Path], out: Path) -> list[Path]:
    """The paths, or, where one of them is somebody's, the first names beside them that are nobody's."""
    free, number = paths, 0
    while any(os.path.lexists(path) for path in free):
        number += 1
        part = ".partial" if number == 1 else f".partial-{number}"
        free = [path.with_name(f"{out.stem}{part}{path.name[len(out.stem) :]}") for path in paths]
    return free


def _write_line(stream: BinaryIO, row: Mapping[str, Any]) -> None:
    stream.write(json_line(row).encode() + b"\n")


def _header(rows: int, size: int) -> bytes:
    """Of NumPy's format 1.0, filled up to the same length whatever the numbers are."""
    said = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {size}), }}".encode()
    start = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    return start + said.ljust(HEADER - 11) + b"\n"
