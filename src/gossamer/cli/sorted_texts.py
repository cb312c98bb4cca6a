"""Texts in the order of a query: what the verbs rank and similar share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from gossamer.cli.growing_files import open_rows
from gossamer.cli.options import check_count
from gossamer.cli.output import print_json, show
from gossamer.cli.spooled_texts import SpooledTexts
from gossamer.cli.task_pages import NOTES, query_page, remark, score
from gossamer.cli.texts import Text, carried
from gossamer.errors import InputError, plural, quote

__all__ = ["Candidates", "check_query", "tell_sorted"]

_OWN = ("source", "rank", "score", "text", "span")


@dataclass(kw_only=True)
class Candidates:
    """The texts of the command line for a task that sorts them: those that cannot be read are left out and told.

    held: where each text is from and the fields of its row, by the number that the task knows it by.
    """

    texts: Iterable[Text]
    held: SpooledTexts = field(default_factory=SpooledTexts)
    bad: list[str] = field(default_factory=list)
    bad_count: int = 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            if text.problem is not None:
                self.bad_count += 1
                self.bad += [text.problem] if len(self.bad) < NOTES else []
                continue
            self.held.add(text)
            yield text.text
        if not self.held and self.bad:
            raise InputError(self.bad[0])

    def __enter__(self) -> Candidates:
        return self

    def __exit__(self, *problem: object) -> None:
        self.held.close()

    def remark(self, notes: Sequence[str]) -> None:
        """What is said of texts that were left out, and of the others."""
        known = self.bad_count
        self.bad_count += sum(said.startswith("left out: ") or said.endswith(": left out") for said in notes)
        left_out = [f"left out: {problem}" for problem in self.bad]
        remark([*left_out, *notes], known + len(notes))


def check_query(query: str, top_k: int | None) -> None:
    """Refuse, before a model is read, a query that is none."""
    check_count("--top-k", top_k)
    if not query.strip():
        raise InputError(f"QUERY is {quote(query)}; ask for something")


def tell_sorted(
    query: str, found: Sequence[Any], candidates: Candidates, out: Path | None, as_json: bool, said: Mapping[str, Any]
) -> None:
    """The texts that were found, in order: rows of a file, of a JSON document with what else is `said`, or a page.

    Where some texts could not be read, the exit code is 2.
    """
    rows = [_row(place, one, candidates.held[one.index]) for place, one in enumerate(found, 1)]
    if out is not None:
        with open_rows(out) as file:
            for row in rows:
                file.add(row)
    if as_json:
        listed = {"out": str(out), "rows": len(rows)} if out is not None else {"texts": rows}
        print_json({"query": query, **listed, **said})
    elif out is not None:
        show(f"{plural(len(rows), 'row')} written to {out}")
    else:
        cells = [[str(row["rank"]), score(row["score"]), row["source"], row["text"]] for row in rows]
        show(query_page(query, cells))
    if candidates.bad_count:
        raise typer.Exit(2)


def _row(place: int, one: Any, text: Text) -> dict[str, Any]:
    own = {"rank": place, "score": one.score, "text": one.text}
    if hasattr(one, "start"):
        own["span"] = [one.start, one.end]
    return {"source": text.source} | carried(text.fields, _OWN) | own
