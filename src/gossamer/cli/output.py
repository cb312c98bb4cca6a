"""What the verbs share: where results, notes and progress go, and files written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from gossamer.atomic_files import check_writable
from gossamer.errors import InputError, Remark, clean_line

__all__ = [
    "check_directory",
    "check_target",
    "note",
    "print_json",
    "printable",
    "progress",
    "show",
    "telling_remarks",
    "wants_json",
    "working",
]

PATIENCE = 2.0
"""Seconds after which somebody who waits is told what for."""
LINES_EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal to draw a bar on."""
WIDTH = 100
"""Columns where there is no terminal."""


def wants_json(args: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, even one that cannot be read."""
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options


def print_json(value: Any) -> None:
    """The one JSON document of a verb, on stdout. Numbers that JSON has no words for become null."""
    print(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=2), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(page: RenderableType, most: int | None = None) -> None:
    """Print a result for people on stdout, at most so many columns wide, without trailing blanks in a file or pipe."""
    out = _console(sys.stdout)
    page = Group(page)  # rich joins bare texts, and forgets that they may not wrap
    width = out.width if most is None else min(out.width, most)
    if out.is_terminal:
        out.print(page, width=width, crop=False)
        return
    with out.capture() as captured:
        out.print(page, width=width, crop=False)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def printable(text: str) -> str:
    """A text in one line, without what would move a terminal's cursor or change its colours."""
    return clean_line(text, longest=max(len(text), 1))


def _console(stream: TextIO) -> Console:
    """In colour on a terminal, unless NO_COLOR is set."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(file=stream, width=width, highlight=False)


def note(message: str) -> None:
    """A remark to the person, on stderr."""
    _console(sys.stderr).print(Text(f"gossamer: {clean_line(message)}"), style="yellow", soft_wrap=True)


@contextmanager
def telling_remarks() -> Iterator[None]:
    """What the library warns of is told as a note, once; other warnings look as they do anywhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", Remark)
        show_other = warnings.showwarning

        def show_warning(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, Remark):
                note(str(message))
            else:
                show_other(message, category, *place, **options)

        warnings.showwarning = show_warning
        yield


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say what is going on where it takes longer than a moment: a spinner on a terminal, else one line."""
    out = _console(sys.stderr)
    if out.is_terminal:
        with out.status(what):
            yield
        return
    timer = threading.Timer(PATIENCE, lambda: out.print(Text(f"gossamer: {what} ..."), soft_wrap=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def progress(what: str, unit: str = "tokens") -> Iterator[Callable[[int, int], None]]:
    """Hands out `report(done, total)`: a bar on a terminal, else a line every ten seconds once two have passed."""
    out = _console(sys.stderr)
    if not out.is_terminal:
        yield _lines(out, what, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {unit}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=out, transient=True, expand=True) as bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _lines(out: Console, what: str, unit: str) -> Callable[[int, int], None]:
    due = time.monotonic() + PATIENCE

    def report(done: int, total: int) -> None:
        nonlocal due
        if time.monotonic() >= due and done < total:
            due = time.monotonic() + LINES_EVERY
            out.print(
                Text(f"gossamer: {what}: {done:,} of {total:,} {unit} ({done / max(total, 1):.0%})"), soft_wrap=True
            )

    return report


def check_target(path: Path, suffixes: Sequence[str], inputs: Sequence[Path] = ()) -> None:
    """Refuse, before any work is done, a file that could not be written or would destroy what is read."""
    if path.suffix not in suffixes:
        raise InputError(f"{path}: the name must end in {' or '.join(suffixes)}, which says how to write it")
    check_writable(path)
    if path.exists() and any(one.exists() and one.samefile(path) for one in inputs):
        raise InputError(f"{path}: is one of the texts to be read; name another file for the result")


def check_directory(out: Path) -> None:
    """Find out before the work, not after it, that the directory --out cannot be written."""
    there = next(one for one in (out, *out.absolute().parents) if one.exists())
    if not there.is_dir():
        raise InputError(f"--out is {str(out)!r}, but {str(there)!r} is a file; name a directory")
    if not os.access(there, os.W_OK):
        raise InputError(f"--out is {str(out)!r}, but {str(there)!r} may not be written to; name another directory")
