"""Texts through a task, one after the other: into a file of rows, one JSON document, or a page for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import typer
from rich.console import Group
from rich.text import Text as Styled

from gossamer.cli.growing_files import RowFile, open_rows
from gossamer.cli.output import JsonList, check_target, harmless, print_json, print_json_lists, show
from gossamer.cli.task_pages import NOTES, SHOWN, named, remark, result_page, telling
from gossamer.cli.texts import Text, carried
from gossamer.errors import InputError, plural

__all__ = ["Page", "Streams", "TaskRun", "check_out"]

_OF_ONE = {
    "log_likelihoods": "log_likelihood", "null_scores": "null_score", "perplexities": "perplexity", "texts": "text",
}  # fmt: skip
"""What a list of a result is called where it is of one text."""


class Streams(Protocol):
    """A task that gives results as texts come."""

    def stream(self, items: Iterable[Any], **options: Any) -> Iterator[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Page:
    """How a result is shown to people: the columns of a table, and its cells for the result of one text.

    line: in place of a table, what is printed of each text as soon as it is there.
    """

    columns: Sequence[str] = ()
    cells: Callable[[Any], list[list[str]]] = lambda result: []
    line: Callable[[Any], str] | None = None


def check_out(out: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse, before any work is done, a file of rows that could not be written."""
    if out is not None:
        check_target(out, (".jsonl",), inputs)


@dataclass(kw_only=True)
class TaskRun:
    """One call of a verb. item: what the task is asked about a text, the text itself unless given; or an InputError.

    rows: what is written of a text and its result; one row of all that the result says, unless given.

    Texts are read as they are needed, and nothing is held of those that are done but what is shown.
    """

    task: Streams
    page: Page
    out: Path | None
    as_json: bool
    item: Callable[[Text], Any] = lambda text: text.item
    rows: Callable[[Text, Any], list[dict[str, Any]]] | None = None
    written: int = 0
    written_rows: int = 0
    errors: int = 0
    noted: int = 0
    notes: list[str] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)
    of_all: dict[str, Any] = field(default_factory=dict)
    first_error: str = ""

    def run(self, texts: Iterable[Text], options: Mapping[str, Any]) -> None:
        """Read all texts and print what there is to say.

        Where some cannot be read, the others are, and the exit code is 2 all the same; InputError where none can be.
        """
        pending: dict[int, Text] = {}
        with self._lists() as lists, self._file() as file:
            with telling(pending) as told:
                for done in self.task.stream(self._items(texts, pending), progress=told, **options):
                    self._add(pending.pop(done.number), done, file, lists)
            if not self.written:
                if file is not None:
                    file.forget()
                raise InputError(self.first_error)
            self._end(lists)
        if self.errors:
            raise typer.Exit(2)

    def _items(self, texts: Iterable[Text], pending: dict[int, Text]) -> Iterator[Any]:
        for number, text in enumerate(texts):
            try:
                item = None if text.problem is not None else self.item(text)
            except InputError as problem:
                item, text = None, replace(text, problem=str(problem))
            pending[number] = text
            yield item

    def _add(self, text: Text, done: Any, file: RowFile | None, lists: Mapping[str, JsonList]) -> None:
        numbered = {done.number: text}
        if done.error is not None:
            error = text.problem or named([done.error], numbered)[0]
            self.errors += 1
            self.first_error = self.first_error or error
            self._note([error], lists)
            rows = [{"source": text.source} | carried(text.fields, ("source", "error")) | {"error": error}]
        else:
            self.written += 1
            self._note(named(done.result.notes, numbered), lists)
            rows = [self._row(text, done.result)] if self.rows is None else self.rows(text, done.result)
            if file is None and not lists:
                self._take_page(text, done.result)
        for row in rows:
            if file is not None:
                file.add(row)
                self.written_rows += 1
            elif lists:
                lists["texts"].add(row)

    def _take_page(self, text: Text, result: Any) -> None:
        if self.page.line is not None:
            said = self.page.line(result)
            print(harmless(said) if sys.stdout.isatty() else said, flush=True)
        elif len(self.shown) < SHOWN:
            self.shown.append((text, result))

    def _row(self, text: Text, result: Any) -> dict[str, Any]:
        """What the task gives for a text, with the other fields of its row."""
        said = result.to_dict()
        of_text = {name: value for name, value in said.items() if isinstance(value, list) and name != "notes"}
        self.of_all = {name: value for name, value in said.items() if not isinstance(value, list)}
        fields = {_OF_ONE.get(name, name): value[0] for name, value in of_text.items()}
        return {"source": text.source} | carried(text.fields, ("source", *fields)) | fields

    def _note(self, notes: Sequence[str], lists: Mapping[str, JsonList]) -> None:
        for said in notes:
            self.noted += 1
            if len(self.notes) < NOTES:
                self.notes.append(said)
            if lists:
                lists["notes"].add(said)

    def _end(self, lists: Mapping[str, JsonList]) -> None:
        if self.errors:
            self.notes.insert(0, f"{self.errors:,} of {plural(self.errors + self.written, 'text')} could not be read")
            self.noted += 1
        remark(self.notes, self.noted)
        if self.out is not None:
            self._tell_file()
        elif self.as_json:
            print_json_lists({"texts": lists["texts"], **self.of_all, "notes": lists["notes"]})
        elif self.page.line is None:
            self._show()

    def _tell_file(self) -> None:
        rows = self.written_rows
        if self.as_json:
            print_json({"out": str(self.out), "rows": rows, "errors": self.errors, **self.of_all})
        else:
            show(Styled(f"{plural(rows, 'row')} written to {self.out}", no_wrap=True, overflow="ignore"))

    def _show(self) -> None:
        parts: list[Any] = []
        for text, result in self.shown:
            parts += result_page(text, result, self.page.columns, self.page.cells(result))
        more = self.written - len(self.shown)
        if more:
            parts.append(Styled(f"and {plural(more, 'more text')}: see all with --json or --out", style="dim"))
        show(Group(*parts))

    @contextmanager
    def _lists(self) -> Iterator[dict[str, JsonList]]:
        """The lists of the JSON document; none where none is printed."""
        with ExitStack() as stack:
            names = ("texts", "notes") if self.as_json and self.out is None else ()
            yield {name: stack.enter_context(closing(JsonList())) for name in names}

    @contextmanager
    def _file(self) -> Iterator[RowFile | None]:
        if self.out is None:
            yield None
            return
        with open_rows(self.out) as file:
            yield file
