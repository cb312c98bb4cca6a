"""What the verbs of tasks say and print: their remarks, and a result for people or as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text as Styled

from gossamer.cli.output import note, printable, progress
from gossamer.cli.texts import Text
from gossamer.cli.wording import wording
from gossamer.errors import InputError, plural

__all__ = [
    "Named",
    "named",
    "query_page",
    "remark",
    "result_page",
    "score",
    "telling",
]

_OPTION = re.compile(r"\b(max_length|stride) (is|says)\b")
NOTES = 3
SHOWN = 20


class Named(Protocol):
    """What knows where it came from."""

    @property
    def source(self) -> str: ...


def named(notes: Sequence[str], texts: Sequence[Text] | Mapping[int, Named]) -> list[str]:
    """The task's remarks, with where a text came from in place of its number, and options in place of arguments."""
    return [_named(note, texts) for note in notes]


def _named(said: str, texts: Sequence[Text] | Mapping[int, Named]) -> str:
    said = re.sub(
        r"^(left out: )?(?:text|context) (\d+)\b", lambda found: (found[1] or "") + texts[int(found[2])].source, said
    )
    said = re.sub(r"^text_pair (\d+)\b", lambda number: f"{texts[int(number[1])].source}: the second text", said)
    said = re.sub(r"\bof pair (\d+)\b", lambda number: f"of {texts[int(number[1])].source}", said)
    said = re.sub(r"^question \d+\b", "QUESTION", said)
    return wording(_OPTION.sub(lambda option: f"--{option[1].replace('_', '-')} {option[2]}", said))


@contextmanager
def telling(
    texts: Sequence[Text] | Mapping[int, Named], unit: str = "tokens"
) -> Iterator[Callable[[int, int | None], None]]:
    """The progress of a task; what it refuses is said in the command line's words."""
    try:
        with progress("reading", unit) as told:
            yield told
    except InputError as problem:
        raise InputError(_named(str(problem), texts)) from problem


def score(value: float) -> str:
    """For a table; small ones as "4.9e-05"."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def remark(notes: list[str], count: int | None = None) -> None:
    """The first remarks, on stderr, and how many more there are; count: of all, where the last ones are not given."""
    more = (len(notes) if count is None else count) - NOTES
    for said in notes[:NOTES]:
        note(said)
    if more > 0:
        note(f"and {plural(more, 'more text')} like these")


def result_page(text: Text, result: Any, columns: Sequence[str], cells: Sequence[list[str]]) -> list[Any]:
    """What a task gives for one text: what it was, and the cells in a table."""
    table = _table(columns, cells) if cells else Styled("none", "dim")
    return [*_heading(text, result.tokens[0], result.passes[0]), table, ""]


def _heading(text: Text, tokens: int, passes: int) -> list[Styled]:
    shown = text.text if text.source.startswith("argument") else text.source
    count = f"{plural(tokens, 'token')}, {plural(passes, 'pass', 'passes')}"
    return [
        Styled(printable(shown[:200]), "bold", no_wrap=True, overflow="ellipsis"),
        Styled(count, "dim"),
    ]


def _table(columns: Sequence[str], rows: Sequence[list[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if column in ("score", "characters") else "left", no_wrap=i > 0)
    for row in rows[:SHOWN]:
        table.add_row(*[Styled(printable(cell), overflow="ellipsis", no_wrap=True) for cell in row])
    if len(rows) > SHOWN:
        table.add_row(*[Styled(f"and {len(rows) - SHOWN:,} more", style="dim")], *[""] * (len(columns) - 1))
    return table


def query_page(query: str, cells: Sequence[list[str]]) -> Group:
    """Texts in the order of a query: their places, scores, where they are from, how they begin."""
    table = _table(("", "score", "from", "text"), [[*row[:3], row[3][:200]] for row in cells])
    return Group(Styled(printable(query[:200]), "bold", no_wrap=True, overflow="ellipsis"), table)
