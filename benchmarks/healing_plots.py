"""healing.svg: held-out bits per masked token while lengthened models are healed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

# Okabe and Ito's colours, which differ for every kind of colour vision.
COLOURS = {"copied": "#0072B2", "random": "#D55E00"}
STYLES = {"all": "-", "positions": "--"}


def healing_plot(results: dict[str, Any], folder: Path) -> None:
    """A line a model, from before the first step on; the original as a level."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    for one in results["rows"]:
        if "what" not in one:
            style = "-" if one["name"] == "original" else ":"
            axes.axhline(
                one["after"], color="0.4", linewidth=1, linestyle=style, label=f"{one['name']}: {one['after']:.2f}"
            )
            continue
        points = dict([(0, one["before"]), *map(tuple, one["curve"])])
        axes.plot(
            list(points), list(points.values()), STYLES[one["what"]], color=COLOURS[one["positions"]], marker="o",
            markersize=3, label=f"{one['positions']} positions, trained: {one['what']}: {one['after']:.2f}",
        )  # fmt: skip
    axes.set(xlabel="step of healing", ylabel="bits per masked token, held out")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    run = results["conditions"]
    figure.supxlabel(
        f"{run['cpu']}, {run['threads']} threads, torch {run['torch']}, {run['date'][:10]}, commit {run['commit']}",
        fontsize=7.5, color="0.35",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "healing.svg", metadata={"Date": None})
