"""What the verbs share: where results, notes and progress go, and files written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from gossamer.atomic_files import check_writable
from gossamer.cli.wording import wording
from gossamer.errors import InputError, Remark, clean_line

__all__ = [
    "JsonList",
    "check_directory",
    "check_target",
    "harmless",
    "is_json",
    "json_line",
    "note",
    "print_json",
    "print_json_lists",
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


class JsonList:
    """A list of a JSON document that is written down as it grows, so that memory does not."""

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(2**20, "w+", encoding="utf-8")  # noqa: SIM115
        self._count = 0

    def add(self, value: Any) -> None:
        """One element more."""
        self._spool.write(",\n    " if self._count else "\n    ")
        self._spool.write(json_line(value))
        self._count += 1

    def copy(self, stream: TextIO) -> None:
        """Write all of it."""
        self._spool.seek(0)
        stream.write("[")
        shutil.copyfileobj(self._spool, stream)
        stream.write("\n  ]" if self._count else "]")

    def close(self) -> None:
        """Drop it."""
        self._spool.close()


def print_json_lists(document: Mapping[str, Any]) -> None:
    """`print_json` of an object some of whose values are `JsonList`s."""
    for i, (name, value) in enumerate(document.items()):
        sys.stdout.write(f"{',' if i else '{'}\n  {json.dumps(name)}: ")
        if isinstance(value, JsonList):
            value.copy(sys.stdout)
        else:
            sys.stdout.write(json_line(value))
    print("\n}", flush=True)


def json_line(value: Any) -> str:
    """A value as JSON in one line that can be encoded, whatever half characters are in it."""
    try:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False)
        line.encode()
        return line
    except ValueError:  # infinity, or half a surrogate pair
        return json.dumps(_finite(value), allow_nan=False)


def is_json(value: Any) -> bool:
    """Whether JSON has words for all numbers in a value."""
    if isinstance(value, dict):
        return all(map(is_json, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(is_json, value))
    return not isinstance(value, float) or math.isfinite(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
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


def harmless(text: str) -> str:
    """A text of several lines, without what would move a terminal's cursor or change its colours."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _console(stream: TextIO) -> Console:
    """In colour on a terminal, unless NO_COLOR is set."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(file=stream, width=width, highlight=False)


def note(message: str) -> None:
    """A remark to the person, on stderr."""
    _console(sys.stderr).print(Text(f"gossamer: {clean_line(wording(message))}"), style="yellow", soft_wrap=True)


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
        with out.status(Text(clean_line(what))):
            yield
        return
    timer = threading.Timer(PATIENCE, lambda: out.print(Text(f"gossamer: {clean_line(what)} ..."), soft_wrap=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def progress(what: str, unit: str = "tokens") -> Iterator[Callable[[int, int | None], None]]:
    """Hands out `report(done, total)`: a bar on a terminal, else a line every ten seconds once two have passed.

    total: None where nobody knows how much there will be.
    """
    out = _console(sys.stderr)
    if not out.is_terminal:
        yield _lines(out, what, unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=out, transient=True, expand=True) as bar:
        task = bar.add_task(what, total=None, visible=False, amount="")
        yield lambda done, total: bar.update(
            task, completed=done, total=total, visible=True, amount=_amount(done, total, unit)
        )


def _amount(done: int, total: int | None, unit: str) -> str:
    return f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"


def _lines(out: Console, what: str, unit: str) -> Callable[[int, int | None], None]:
    due = time.monotonic() + PATIENCE

    def report(done: int, total: int | None) -> None:
        nonlocal due
        if time.monotonic() >= due and (total is None or done < total):
            due = time.monotonic() + LINES_EVERY
            share = "" if total is None else f" ({done / max(total, 1):.0%})"
            out.print(Text(f"gossamer: {what}: {_amount(done, total, unit)}{share}"), soft_wrap=True)

    return report


def check_target(path: Path, suffixes: Sequence[str], inputs: Sequence[Path] = ()) -> None:
    """Refuse, before any work is done, a file that could not be written or would destroy what is read."""
    if path.suffix not in suffixes:
        raise InputError(f"{path}: the name must end in {' or '.join(suffixes)}, which says how to write it")
    check_writable(path)
    if path.exists() and any(read.exists() and read.samefile(path) for read in inputs):
        raise InputError(f"{path}: is one of the texts to be read; name another file for the result")


def check_directory(out: Path) -> None:
    """Find out before the work, not after it, that the directory --out cannot be written.

    A folder that is replaced as a whole must not be the one that the shell stands in, or one around it.
    """
    here = Path.cwd()
    if out.resolve() in (here, *here.parents):
        raise InputError(
            f"--out is {str(out)!r}, the folder you are in, or one around it; name one in it, or beside it"
        )
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise InputError(f"--out is {str(out)!r}, but {str(there)!r} is a file; name a directory")
    if not os.access(there, os.W_OK):
        raise InputError(f"--out is {str(out)!r}, but {str(there)!r} may not be written to; name another directory")
