"""Results that grow case by case: written whole after each of them, so that a killed run keeps what it has."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import load, write_json

Records = list[dict[str, Any]]
KINDS = ("parity", "times", "memory", "left_out")


class Store:
    """The results of one benchmark; `path` None keeps them in memory alone.

    Every record names its case and, by number, the run it comes from; a run's conditions are kept once, in `runs`.
    """

    def __init__(self, path: Path | None, benchmark: str, conditions: dict[str, Any], resume: bool = False) -> None:
        self.path = path
        self.results: dict[str, Any] = {
            "benchmark": benchmark, "complete": False, "runs": [], "done": [], **{kind: [] for kind in KINDS},
        }  # fmt: skip
        if resume and path is not None and path.is_file():
            self.results = read(path, benchmark)
            self.results["complete"] = False
        self.results["runs"].append(conditions)

    def has(self, case: str) -> bool:
        return case in self.results["done"]

    def add(self, case: str, found: dict[str, Records]) -> None:
        """Put a case's records, by kind, in the place of any that it had, and write everything."""
        run = len(self.results["runs"]) - 1
        for kind in KINDS:
            kept = [record for record in self.results[kind] if record["case"] != case]
            self.results[kind] = kept + [{"case": case, "run": run, **record} for record in found.get(kind, [])]
        if case not in self.results["done"]:
            self.results["done"].append(case)
        self.write()

    def finish(self, planned: Iterable[str]) -> None:
        """Close the run: complete when every planned case is there."""
        self.results["complete"] = set(planned) <= set(self.results["done"])
        self.results["runs"][-1]["load_at_end"] = load()
        self.write()

    def write(self) -> None:
        if self.path is not None:
            write_json(self.path, self.results)


def read(path: Path, benchmark: str) -> dict[str, Any]:
    """Results written before. Raises ValueError where the file holds others."""
    results = json.loads(path.read_text())
    if results.get("benchmark") != benchmark or "runs" not in results:
        raise ValueError(f"{path} holds no results of benchmarks/{benchmark}.py to go on from: take another --out")
    return results
