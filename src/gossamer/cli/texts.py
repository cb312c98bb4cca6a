"""Texts from the command line: arguments, files, lines of a .jsonl file, standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.cli.help_page import Verb
from gossamer.errors import InputError

__all__ = ["TakesFiles", "Text", "read_texts"]


@dataclass(frozen=True)
class Text:
    """One text and where it came from: `argument 1`, `speech.txt`, `speeches.jsonl:3`, `stdin`.

    whole: it is all of a text file, with the line break at its end.
    """

    source: str
    text: str
    whole: bool = False


class TakesFiles(Verb):
    """A verb whose --file takes all names up to the next option, so that `--file *.txt` means what it says."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _spread(args, ("--file", "-f")))


def _spread(args: Sequence[str], names: tuple[str, ...]) -> list[str]:
    """`--file a b` as `--file a --file b`."""
    spread: list[str] = []
    collecting, values = "", 0
    for i, one in enumerate(args):
        if one == "--":
            return [*spread, *args[i:]]
        if one.startswith("-") and one != "-":
            collecting, values = (one if one in names else ""), 0
        elif collecting:
            spread += [collecting] if values else []
            values += 1
        spread.append(one)
    return spread


def read_texts(arguments: Sequence[str], files: Sequence[Path], field: str, option: str = "--field") -> list[Text]:
    """All texts in order, arguments first. Raises InputError for unreadable or empty ones, and where there are none."""
    texts = [Text(f"argument {i}", text) for i, text in enumerate(arguments, 1)]
    if sum(str(one) == "-" for one in files) > 1:
        raise InputError("--file names '-' twice; standard input can be read once")
    for file in files:
        texts.extend(_read(file, field, option))
    for one in texts:
        if not one.text.strip():
            raise InputError(f"{one.source}: the text is empty; leave it out, or write something in it")
    if not texts:
        raise InputError("there is no text; give TEXT, or --file FILE, or --file - for standard input")
    return texts


def _read(file: Path, field: str, option: str) -> Iterator[Text]:
    name = "stdin" if str(file) == "-" else str(file)
    if name == "stdin" and sys.stdin is None:
        raise InputError("--file is '-', but standard input is closed; pipe a text in, or name a file")
    try:
        data = sys.stdin.buffer.read() if name == "stdin" else file.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; a text itself goes before --file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a directory; name its files, such as {name.rstrip('/')}/*.txt") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(
            f"{name}: is no UTF-8 text (byte {data[problem.start]:#04x} at {problem.start}); convert it first"
        ) from None
    if file.suffix != ".jsonl":
        yield Text(name, text, whole=True)
        return
    # Split at line feeds alone: str.splitlines would also break inside strings, at U+2028 and others.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Text(f"{name}:{number}", _field(line, field, f"{name}:{number}", option))


def _field(line: str, field: str, where: str, option: str) -> str:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise InputError(f"{where}: is no JSON ({problem}); each line must be an object") from None
    value = data.get(field) if isinstance(data, dict) else None
    if not isinstance(value, str):
        fields = ", ".join(map(str, data)) if isinstance(data, dict) else "no object"
        if isinstance(data, dict) and field in data:
            found = json.dumps(value)[:40]
            raise InputError(f"{where}: the field {field!r} is {found}, no text; name another with {option}")
        raise InputError(f"{where}: has no text in the field {field!r} (it has: {fields[:80]}); name one with {option}")
    return value
