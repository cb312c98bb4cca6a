"""What every part of benchmarks/slim.py is made of, and the words that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import table, verdict

from gossamer.training.journal.journal import FILE, read_journal

__all__ = ["BUDGETS", "Part", "held_out_curve", "named", "names_of", "text_table", "verdict"]

BUDGETS = ("cpu", "gpu", "smoke")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison. Its results are a dict of `conditions`, `rows`, `times` and what the `paper` says.

    plans: how much is trained, a dataclass a budget. rows: trains and judges, a record a model and seed, as they come.
    times: latencies of what was trained, where they are told. tables, verdicts: of the results; plot: into a folder.
    """

    plans: Mapping[str, Any]
    rows: Callable[[Any, Path, int], Iterator[dict[str, Any]]]
    tables: Callable[[dict[str, Any]], list[str]]
    verdicts: Callable[[dict[str, Any]], list[str]]
    plot: Callable[[dict[str, Any], Path], None]
    times: Callable[[Any, Path, int], list[dict[str, Any]]] | None = None
    paper: Mapping[str, float] | None = None

    def report(self, results: dict[str, Any]) -> str:
        """Conditions, tables, verdicts."""
        told = "\n".join(f"{name}: {value}" for name, value in results["conditions"].items())
        return "\n\n".join([told, *self.tables(results), "\n".join(self.verdicts(results))])


def named(results: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The records of one model, a seed each."""
    return [row for row in results["rows"] if row["name"] == name]


def names_of(results: dict[str, Any]) -> list[str]:
    """The models, in the order in which they came."""
    return list(dict.fromkeys(row["name"] for row in results["rows"]))


def held_out_curve(folder: Path, score: str) -> list[tuple[int, float]]:
    """(step, score) of what a run held out while it was trained."""
    lines = (line for line in read_journal(folder / FILE) if line["split"] != "train")
    return [(line["step"], line[score]) for line in lines if line.get(score) is not None]


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, or nothing where it would have no rows."""
    return [table(header, rows)] if rows else []
