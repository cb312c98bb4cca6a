"""recompute.svg: what computing parts again costs in time and saves in memory, over length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, which differ for every kind of colour vision.
COLOURS = {"nothing": "#000000", "attention": "#E69F00", "feed_forward": "#56B4E9", "both": "#009E73"}
MIB = 2**20


def recompute_plot(results: dict[str, Any], folder: Path) -> None:
    """A column a pattern: seconds a step above, memory below, with the estimate dotted."""
    patterns = list(dict.fromkeys(t["pattern"] for t in results["times"]))
    if not patterns:
        return
    figure = Figure(figsize=(4.2 * len(patterns), 7), layout="constrained")
    panels = figure.subplots(2, len(patterns), squeeze=False, sharey="row")
    for column, pattern in enumerate(patterns):
        for way, colour in COLOURS.items():
            times = _line(results["times"], pattern, way, "median")
            _draw(panels[0][column], times, colour, way)
            _draw(panels[1][column], _line(results["memory"], pattern, way, "extra"), colour, way)
            estimate = _line(results["memory"], pattern, way, "estimate")
            panels[1][column].plot(list(estimate), list(estimate.values()), ":", color=colour, linewidth=1)
        panels[0][column].set_title(pattern)
        panels[1][column].set_xlabel("tokens")
    panels[0][0].set_ylabel("seconds a step")
    panels[1][0].set_ylabel("peak memory in bytes (dotted: gossamer estimate)")
    panels[0][0].legend(frameon=False, title="computed again", fontsize=8)
    run = results["runs"][-1]
    caption = (
        f"{run['cpu']}, {run['threads']} threads, torch {run['torch']}, {run['date'][:10]}, commit {run['commit']}"
    )
    figure.supxlabel(caption, fontsize=7.5, color="0.35")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "recompute.svg", metadata={"Date": None})


def _line(records: list[dict[str, Any]], pattern: str, way: str, field: str) -> dict[int, float]:
    found = {r["n"]: r[field] for r in records if r["pattern"] == pattern and r["name"] == way}
    return dict(sorted(found.items()))


def _draw(panel: Axes, line: dict[int, float], colour: str, label: str) -> None:
    panel.plot(list(line), list(line.values()), marker="o", markersize=4, color=colour, label=label)
    panel.set(xscale="log", yscale="log")
    panel.set_xticks(list(line), [f"{n:,}" for n in line], fontsize=7.5)
    panel.minorticks_off()
    panel.grid(color="0.9")
    panel.spines[["top", "right"]].set_visible(False)
