"""Files of vectors that grow row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gossamer.atomic_files import write_errors
from gossamer.cli.growing_files import open_growing, write_line
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

    def __init__(self, out: Path, stream: BinaryIO, rows_stream: BinaryIO | None = None) -> None:
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
                    write_line(self._stream, {**row, "vector": vector.tolist()})
            self._ends = (self._stream.tell(), self._rows_stream.tell() if self._rows_stream else 0)
        self.rows += len(rows)
        self.texts += is_last

    def finish(self) -> None:
        """Leave complete rows alone, and let the header tell their number."""
        for stream, end in zip((self._stream, self._rows_stream), self._ends, strict=True):
            if stream is not None:
                stream.seek(end)
                stream.truncate()
        if self._out.suffix == ".npy":
            self._stream.seek(0)
            self._stream.write(_header(self.rows, self._size))

    def describe(self) -> str:
        """How many vectors there are, and of how many texts."""
        return f"{plural(self.rows, 'vector')} of {plural(self.texts, 'text')}"

    def _add_numbers(self, vectors: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
        if not self._stream.tell():
            self._size = vectors.shape[1]
            self._stream.write(_header(0, self._size))
        self._stream.write(vectors.astype("<f4", copy=False).tobytes())
        for i, row in enumerate(rows, self.rows):
            if self._rows_stream is not None:
                write_line(self._rows_stream, {"row": i, **row})


@contextmanager
def open_vectors(out: Path) -> Iterator[VectorFile]:
    """A file to add vectors to; a .npy file gets its map beside it. See `open_growing`."""
    paths = [out, map_of(out)] if out.suffix == ".npy" else [out]
    with open_growing(paths, lambda streams: VectorFile(out, *streams)) as file:
        yield file


def _header(rows: int, size: int) -> bytes:
    """Of NumPy's format 1.0, filled up to the same length whatever the numbers are."""
    said = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {size}), }}".encode()
    start = b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little")
    return start + said.ljust(HEADER - 11) + b"\n"
