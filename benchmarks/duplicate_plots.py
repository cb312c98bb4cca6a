"""duplicate.svg: accuracy by the rounds of evaluation, a line a way of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("#000000", "#0072B2", "#56B4E9", "#E69F00")


def duplicate_plots(results: dict[str, Any], folder: Path) -> None:
    """Dashed lines are the paper's."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    ways = ("1", "2", "4", "8", "full")
    for row, colour in zip(results["rows"], COLOURS, strict=False):
        name = row["trained"]
        axes.plot(ways, [100 * row["accuracy"][way] for way in ways], "o-", color=colour, label=f"trained with {name}")
        axes.plot(ways, [results["paper"][name][way] for way in ways], "--", color=colour, linewidth=0.8)
    axes.set(xlabel="rounds of evaluation (dashed: the paper's)", ylabel="letters told, %", ylim=(-3, 103))
    axes.legend(frameon=False, fontsize=8)
    said = results["conditions"]
    axes.set_title(f"{said['cpu']}, torch {said['torch']}", fontsize=8)
    figure.savefig(folder / "duplicate.svg", metadata={"Date": None})
