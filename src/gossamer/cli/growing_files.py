"""Files that grow row by row: whole in the end, and after an interrupt whole as far as they came."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from gossamer.atomic_files import beside, open_whole, put_whole, write_errors
from gossamer.cli.output import json_line, note
from gossamer.errors import plural

__all__ = ["Growing", "RowFile", "open_growing", "open_rows", "write_line"]


class Growing(Protocol):
    """What is written into files that grow."""

    @property
    def rows(self) -> int:
        """How many complete rows there are."""

    def finish(self) -> None:
        """Leave the complete rows alone in the files."""

    def describe(self) -> str:
        """What is finished: "3 rows"."""


G = TypeVar("G", bound=Growing)


@contextmanager
def open_growing(paths: Sequence[Path], make: Callable[[Sequence[BinaryIO]], G]) -> Iterator[G]:
    """What `make` makes of new files, which are at these paths at the end of the block.

    Where the block ends early, by an interrupt or an error, the finished rows stay, which a note says: under these
    names, or, where one was somebody's before, under others beside them.
    """
    early: BaseException | None = None
    with ExitStack() as names:
        with write_errors(paths[0]):
            new = [names.enter_context(beside(path.resolve())) for path in paths]
        with ExitStack() as files:
            growing = make([files.enter_context(_opened(*pair)) for pair in zip(new, paths, strict=True)])
            try:
                yield growing
            except OSError:
                raise
            except BaseException as problem:
                if not growing.rows:
                    raise
                early = problem
            with write_errors(paths[0]):
                growing.finish()
        targets = paths if early is None else _free(paths)
        with write_errors(paths[0]):
            for each, target in zip(reversed(new), reversed(targets), strict=True):  # the first one last
                put_whole(each, target)
    if early is not None:
        note(f"{growing.describe()} are finished and in {targets[0]}")
        raise early


class RowFile:
    """A .jsonl file under way."""

    def __init__(self, stream: BinaryIO) -> None:
        self.rows = 0
        self._stream, self._end = stream, 0

    def add(self, row: Mapping[str, Any]) -> None:
        """One row more."""
        write_line(self._stream, row)
        self.rows, self._end = self.rows + 1, self._stream.tell()

    def forget(self) -> None:
        """None of the rows is worth keeping."""
        self.rows = self._end = 0

    def finish(self) -> None:
        """Leave complete rows alone."""
        self._stream.seek(self._end)
        self._stream.truncate()

    def describe(self) -> str:
        """How many there are."""
        return plural(self.rows, "row")


@contextmanager
def open_rows(out: Path) -> Iterator[RowFile]:
    """A .jsonl file to add rows to; see `open_growing`."""
    with open_growing([out], lambda streams: RowFile(streams[0])) as file:
        yield file


def write_line(stream: BinaryIO, row: Mapping[str, Any]) -> None:
    """A row as JSON in one line."""
    stream.write(json_line(row).encode() + b"\n")


@contextmanager
def _opened(new: Path, path: Path) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        with write_errors(path):
            stream = stack.enter_context(open_whole(new, path))
        yield stream


def _free(paths: Sequence[Path]) -> list[Path]:
    """The paths, or, where one of them is somebody's, the first names beside them that are nobody's."""
    free, number, stem = list(paths), 0, paths[0].stem
    while any(os.path.lexists(path) for path in free):
        number += 1
        part = ".partial" if number == 1 else f".partial-{number}"
        free = [path.with_name(f"{stem}{part}{path.name[len(stem) :]}") for path in paths]
    return free
