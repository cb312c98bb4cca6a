"""deep.svg: memory by depth of each way, and the losses of those that learnt."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {
    "plain": "#000000", "computed again": "#0072B2", "reversible": "#D55E00", "reversible, dropout": "#E69F00",
}  # fmt: skip
SMOOTH = 20
"""Steps whose mean loss is drawn."""


def deep_plots(results: dict[str, Any], folder: Path) -> None:
    """One picture of two panels; those of parts that were not measured stay empty."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    memory, loss = figure.subplots(1, 2)
    widths = sorted({one["width"] for one in results["memory"]})
    for width, (way, colour) in product(widths, COLOURS.items()):
        there = [one for one in results["memory"] if (one["width"], one["way"]) == (width, way)]
        if there:
            layers, style = [one["layers"] for one in there], "o-" if width == widths[-1] else "o:"
            told = f"{way}, {width} wide"
            memory.plot(layers, [one["extra"] / 1e6 for one in there], style, color=colour, label=told, markersize=3)
    memory.set(xscale="log", yscale="log", xlabel="layers", ylabel="MB of a step, beside weights and optimizer")
    for one in results["train"]:
        few = max(1, min(SMOOTH, len(one["losses"]) // 5))
        means = [
            sum(one["losses"][max(0, i - few) : i + 1]) / (i + 1 - max(0, i - few)) for i in range(len(one["losses"]))
        ]
        loss.plot(range(1, len(means) + 1), means, color=COLOURS[one["way"]], label=one["name"])
    loss.set(xlabel="steps", ylabel="loss, nats a byte")
    for axes in (memory, loss):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=6)
    said = [f"{part}: {run['cpu']}, {run['threads']} threads, torch {run['torch']}, {run['date'][:10]}"
            for part, run in results["runs"].items() if part != "drift"]  # fmt: skip
    figure.suptitle("; ".join(said), fontsize=7)
    figure.savefig(folder / "deep.svg", metadata={"Date": None})
