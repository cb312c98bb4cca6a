"""Texts from the command line: arguments, files of every format that is read, standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.cli.help_page import Verb
from gossamer.cli.output import is_json, note
from gossamer.errors import InputError, quote, remark

if TYPE_CHECKING:
    from gossamer.text import Document, InputStream, Split

__all__ = [
    "TakesFiles",
    "Text",
    "TextFormat",
    "carried",
    "documents_of",
    "field_of",
    "first_readable",
    "input_files",
    "not_one_bad",
    "open_sources",
    "read_texts",
    "refuse_file_name",
    "stdin_stream",
]

STDIN = "stdin"
_SHOWN = 3
_LOOKS_LIKE_A_FILE = (
    *(".txt", ".md", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz", ".xz", ".zst"),
    *(".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".html", ".htm", ".xml", ".npy", ".zip"),
)


class TextFormat(StrEnum):
    """How texts are written in a file."""

    txt = "txt"
    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


@dataclass(frozen=True)
class Text:
    """One text and where it came from: `argument 1`, `speech.txt`, `speeches.jsonl:3`, `standard input`.

    whole: it is all of a file of plain text, with the line break at its end. fields: the others of its row. problem:
    why there is no text.
    """

    source: str
    text: str
    whole: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def item(self) -> str | None:
        """What a task is asked about: the text, or None, which it refuses."""
        return None if self.problem is not None else self.text


def carried(fields: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """The fields of a row, for a result with fields of its own; one that is called like one of those: `input_...`.

    What JSON has no word for will be null in it, which a note says once.
    """
    if not is_json(fields):
        remark("NaN and infinity in the fields of rows, which JSON does not have, are null in the result")
    renamed = {}
    for name, value in fields.items():
        other = name
        while other in own or (other != name and other in fields):
            other = f"input_{other}"
        renamed[other] = value
    return renamed


class TakesFiles(Verb):
    """A verb whose --file takes all names up to the next option, so that `--file *.txt` means what it says.

    spread: the options that do so.
    """

    spread: tuple[str, ...] = ("--file", "-f")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread = _spread(args, self.spread)
        swallowed = len(spread) > len(args)
        try:
            return super().parse_args(ctx, spread)
        except Exception as problem:
            missing = getattr(problem, "param", None)
            if type(problem).__name__ != "MissingParameter" or missing is None or not swallowed:
                raise
            name = missing.metavar
            raise InputError(
                f"{name} is missing: {self.spread[0]} takes all names that follow it; write {name} before it, or -- "
                "behind the last file"
            ) from None


def _spread(args: Sequence[str], names: tuple[str, ...]) -> list[str]:
    """`--file a b` as `--file a --file b`."""
    spread: list[str] = []
    collecting, values = "", 0
    for i, arg in enumerate(args):
        if arg == "--":
            return [*spread, *args[i:]]
        if arg.startswith("-") and arg != "-":
            collecting, values = (arg if arg in names else ""), 0
        elif collecting:
            spread += [collecting] if values else []
            values += 1
        spread.append(arg)
    return spread


def read_texts(
    arguments: Sequence[str],
    files: Sequence[Path],
    field: str = "text",
    *,
    format: TextFormat | None = None,
    as_text: bool = False,
    may_be_empty: bool = False,
    split: Split = "file",
    lenient: bool = False,
) -> Iterator[Text]:
    """All texts in order, arguments first, read as they are asked for: one row or one file at a time.

    An argument that is the name of a file, and "-", is read as that file, which a note says, unless `as_text`. split:
    what is a text of a file of plain text. lenient: a row that cannot be read, an empty text, is one with a `problem`.
    Raises InputError, at once where there is nothing to read from or a file that is not there or of no format that is
    read; later, for what is in the files, for empty texts unless they may be, and where there were no texts.
    """
    sources = open_sources(arguments, files, format=format, as_text=as_text)
    texts = _checked(_texts(sources, field, format, split, lenient), may_be_empty, lenient)
    return not_one_bad(texts) if lenient else texts


def first_readable(texts: Iterator[Text]) -> tuple[Text | None, Iterator[Text]]:
    """The first text without a problem, None where there is none, and all of them."""
    before: list[Text] = []
    for text in texts:
        before.append(text)
        if text.problem is None:
            return text, chain(before, texts)
    return None, iter(before)


def field_of(text: Text, name: str, option: str) -> str:
    """The text of another field of a row. InputError where it has none; option: which names it."""
    value = text.fields.get(name)
    if isinstance(value, str):
        return value
    others = ", ".join(text.fields)[:80] or "none but its text"
    said = f"is {quote(value)}" if name in text.fields else f"is missing (it has: {others})"
    raise InputError(f"{text.source}: the field {name!r} {said}; name one of its row with {option}")


def not_one_bad(texts: Iterator[Text]) -> Iterator[Text]:
    """The same; InputError at once where there is one alone, which cannot be read."""
    first = list(islice(texts, 2))
    if len(first) == 1 and first[0].problem is not None:
        raise InputError(first[0].problem)
    return chain(first, texts)


def open_sources(
    arguments: Sequence[str], files: Sequence[Path], *, format: TextFormat | None = None, as_text: bool = False
) -> list[Path | Text]:
    """Files to read, of a format that is read, and texts as they are, in their order; errors as of `read_texts`."""
    sources = _sources(arguments, files, as_text)
    if not sources:
        raise InputError("there is no text; give TEXT, or --file FILE, or - for standard input")
    paths = [source for source in sources if isinstance(source, Path)]
    if paths.count(Path("-")) > 1:
        raise InputError("'-' is given twice; standard input can be read once")
    _check_files(paths, format)
    if not as_text:
        _tell_directories(arguments)
    named = [argument for argument in arguments if not as_text and argument != "-" and _is_file_name(argument)]
    if named:
        _tell_named(named)
    return sources


def documents_of(
    path: Path,
    field: str,
    format: TextFormat | None,
    told: Callable[[int], None] = lambda count: None,
    split: Split = "file",
    lenient: bool = False,
) -> Iterator[Document]:
    """The documents of a file, or of standard input, in parts; told: the bytes that were read."""
    from gossamer.text.documents import read_documents

    source = stdin_stream() if path == Path("-") else path
    return read_documents([source], field=field, split=split, format=format, told=told, remark=note, lenient=lenient)


def input_files(arguments: Sequence[str], files: Sequence[Path], as_text: bool = False) -> list[Path]:
    """The files among the arguments, and those of --file, without standard input."""
    sources = _sources(arguments, files, as_text)
    return [source for source in sources if isinstance(source, Path) and source != Path("-")]


def refuse_file_name(option: str, value: str, as_text: bool) -> None:
    """Refuse the name of a file where only a text is taken."""
    if not as_text and _is_file_name(value):
        raise InputError(f"{option} is {quote(value)}, the name of a file; write the text itself, or add --text")


def _sources(arguments: Sequence[str], files: Sequence[Path], as_text: bool) -> list[Path | Text]:
    """Files to read and texts as they are, in their order."""
    sources: list[Path | Text] = []
    for number, argument in enumerate(arguments, 1):
        is_file = not as_text and (argument == "-" or _is_file_name(argument))
        sources.append(Path(argument) if is_file else Text(f"argument {number}", argument))
    return [*sources, *files]


def _is_file_name(argument: str) -> bool:
    """Whether there is such a file; InputError where it can only be meant as one that is not there."""
    try:
        is_there = not Path(argument).is_dir() and Path(argument).exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL
        return False
    if not is_there and argument.lower().endswith(_LOOKS_LIKE_A_FILE) and not any(map(str.isspace, argument)):
        raise InputError(f"{argument}: no such file; if this is the text itself, add --text")
    return is_there


def _tell_directories(arguments: Sequence[str]) -> None:
    """A word that is a directory's name too is the text; with a slash behind it only the directory can be meant."""
    for argument in arguments:
        if _is_directory(argument):
            if argument.endswith(("/", os.sep)):
                raise InputError(f"{argument}: is a directory; name its files, such as {argument}*.txt, or add --text")
            note(f"{argument}: is the name of a directory too; it is read as the text itself")


def _is_directory(argument: str) -> bool:
    try:
        return bool(argument.strip("/.")) and Path(argument).is_dir()
    except (OSError, ValueError):
        return False


def _tell_named(names: Sequence[str]) -> None:
    listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    what = "is the name of a file" if len(names) == 1 else f"are names of {len(names):,} files"
    note(f"{listed}: {what}, and read as such; with --text a name itself is the text")


def _check_files(paths: Sequence[Path], format: TextFormat | None) -> None:
    """What can be told before a model is read."""
    from gossamer.text.documents import input_bytes
    from gossamer.text.file_formats import format_of_name

    for path in paths:
        if path == Path("-"):
            _check_stdin()
        else:
            input_bytes([path])
            format_of_name(str(path), format)


def stdin_stream() -> InputStream:
    """Standard input, to be read once; InputError where it is closed, or is no file or pipe."""
    from gossamer.text.documents import InputStream

    _check_stdin()
    return InputStream(STDIN, sys.stdin.buffer)


def _check_stdin() -> None:
    if sys.stdin is None:
        raise InputError("a text is '-', but standard input is closed; pipe a text in, or name a file")
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):  # not a stream of the system's
        return
    is_device = stat.S_ISCHR(status.st_mode) and not sys.stdin.isatty()
    if is_device and status.st_rdev != os.stat(os.devnull).st_rdev:
        raise InputError("standard input is a device, which never ends; pipe a text in, or name a file")
    if stat.S_ISDIR(status.st_mode):
        raise InputError("standard input is a directory; pipe a text in, or name a file")


def _texts(
    sources: Sequence[Path | Text], field: str, format: TextFormat | None, split: Split, lenient: bool
) -> Iterator[Text]:
    for source in sources:
        if isinstance(source, Text):
            yield source
            continue
        for document in documents_of(source, field, format, split=split, lenient=lenient):
            yield _text_of(document, lenient)


def _text_of(document: Document, lenient: bool) -> Text:
    try:
        text = "".join(document.parts)
    except InputError as problem:
        if not lenient:
            raise
        return Text(document.name, "", fields=document.fields, problem=str(problem))
    return Text(document.name, text, whole=document.number == 0, fields=document.fields)


def _checked(texts: Iterator[Text], may_be_empty: bool, lenient: bool) -> Iterator[Text]:
    count = 0
    for count, text in enumerate(texts, 1):  # noqa: B007
        problem = text.problem or _problem(text, may_be_empty)
        if problem is not None and not lenient:
            raise InputError(problem)
        yield replace(text, problem=problem)
    if not count:
        raise InputError("there is no text: the files have none in them; name others")


def _problem(text: Text, may_be_empty: bool) -> str | None:
    """What is wrong with a text. Bytes of an argument that are no UTF-8 come as halves of surrogate pairs."""
    if not may_be_empty and not text.text.strip():
        return f"{text.source}: the text is empty; leave it out, or write something in it"
    try:
        text.text.encode()
    except UnicodeEncodeError as problem:
        return (
            f"{text.source}: character {problem.start} is no character, but half a surrogate pair or a byte that is no "
            "UTF-8; write the text as UTF-8"
        )
    return None
