"""What a run writes down: journal.jsonl, one line a measurement; TensorBoard's files; a live line; loss.svg."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from gossamer.atomic_files import write_whole
from gossamer.errors import InputError, quote
from gossamer.regular_files import open_regular
from gossamer.training.journal.live import LiveLine
from gossamer.training.journal.plot import plot_losses

__all__ = ["FILE", "PLOT", "Journal", "find_tensorboard", "read_journal"]

FILE, PLOT, BOARD = "journal.jsonl", "loss.svg", "tensorboard"


class Journal:
    """The record of one run in `directory`, to be used as a context or closed.

    `resume_step`: the step of the checkpoint that the run goes on from. Later lines are cut off, and what a kill left
    of a line is removed, so that in the end the file is what one unbroken run would have written, times aside: what
    belongs to a step is to be written before its checkpoint. None begins anew: an older journal there is removed.
    `live`: show the state of the run on stderr. `tensorboard`: write its event files too, by tensorboardX. Raises
    InputError where that is missing.
    """

    def __init__(
        self, directory: Path | str, *, live: bool = True, tensorboard: bool = False, resume_step: int | None = None
    ) -> None:
        self.directory = Path(directory)
        self.path = self.directory / FILE
        self._board = _open_board(self.directory / BOARD, resume_step) if tensorboard else None
        self._live = LiveLine() if live else None
        self.directory.mkdir(parents=True, exist_ok=True)
        _cut(self.path, resume_step)
        # Unbuffered: a line is handed to the system by one call, so that a kill leaves whole lines behind.
        self._file: IO[bytes] = self.path.open("ab", buffering=0)

    def write(self, step: int, split: str = "train", **numbers: float | int | str | None) -> None:
        """Append one line: {"step", "split", and the numbers}; NaN and infinity, which JSON has not, become null."""
        record = {"step": step, "split": split, **{name: _finite(value) for name, value in numbers.items()}}
        self._append(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        if self._board is not None:
            for name, value in numbers.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{name}/{split}", value, step)

    def show(self, step: int, steps: int, **numbers: float | int | None) -> None:
        """The live line: step of steps, then the numbers that are given.

        Those are loss, bits_per_byte, rate, tokens_per_second, memory in bytes (looked up unless given) and
        seconds_left (reckoned unless given; no more than seconds_at_most, until the time of a run is up).
        """
        if self._live is not None:
            self._live.show(step, steps, numbers)

    def _append(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:  # a disk that fills up takes a part, then refuses
            rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """Return when everything written is on the disk; to be called before a checkpoint counts as saved."""
        os.fsync(self._file.fileno())
        if self._board is not None:
            self._board.flush()

    def plot(self) -> Path | None:
        """Draw loss.svg from the journal; its path, or None where no loss has been written yet."""
        curves: dict[str, list[tuple[int, float]]] = {}
        for record in read_journal(self.path):
            if isinstance(loss := record.get("loss"), int | float):
                curves.setdefault(str(record.get("split")), []).append((record["step"], loss))
        if not curves:
            return None
        target = self.directory / PLOT
        write_whole(target, lambda file: plot_losses(curves, file))
        return target

    def close(self) -> None:
        """End the live line and close the files; a second time does nothing."""
        if self._live is not None:
            self._live.close()
        if self._board is not None:
            self._board.close()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path | str) -> Iterator[dict[str, Any]]:
    """The records of a journal in order, without lines that a kill or a crash left half written."""
    for line in _lines(Path(path)):
        if (record := _record(line)) is not None:
            yield record


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with open_regular(path) as file:
            yield from file


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and type(found.get("step")) is int else None


def _cut(path: Path, resume_step: int | None) -> None:
    """Leave the whole lines up to that step; the file is put in its place in one piece."""
    if resume_step is not None and (type(resume_step) is not int or resume_step < 0):
        raise InputError(f"resume_step is {quote(resume_step)}; it must be a step, 0 or more, or None to begin anew")
    if not path.exists():
        return

    def kept(line: bytes) -> bool:
        record = _record(line)
        return record is not None and resume_step is not None and record["step"] <= resume_step

    if not all(map(kept, _lines(path))):
        write_whole(path, lambda file: file.writelines(line for line in _lines(path) if kept(line)))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def find_tensorboard() -> Any:
    """The class that writes TensorBoard's files; InputError where tensorboardX is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(
            "tensorboard is on but tensorboardX is not installed: pip install 'gossamer[tensorboard]', or turn it off"
        ) from None
    return SummaryWriter


def _open_board(directory: Path, resume_step: int | None) -> Any:
    # What was written behind the checkpoint is marked as overruled. Names tell the second alone, which runs may share.
    first = None if resume_step is None else resume_step + 1
    return find_tensorboard()(str(directory), purge_step=first, filename_suffix=f".{secrets.token_hex(4)}")
