"""What `bytes.py` found, as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "dense": "#000000", "strided": "#E69F00", "fixed": "#009E73", "window": "#0072B2", "dilated mixture": "#CC79A7",
}  # fmt: skip


def bytes_plots(results: dict[str, Any], folder: Path) -> None:
    """bytes.svg: a panel for each corpus, one bar a pattern, gzip as a line."""
    trained = [*results.get("corpora", []), *results.get("digits", [])]
    names = list(dict.fromkeys(one["corpus"] for one in trained))
    if not names:
        return
    figure, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 4.2), layout="constrained", squeeze=False)
    for panel, name in zip(axes[0], names, strict=True):
        some = sorted((one for one in trained if one["corpus"] == name), key=lambda one: one["bits_per_byte"])
        for i, one in enumerate(some):
            panel.bar(i, one["bits_per_byte"], color=COLOURS[one["pattern"]])
            panel.annotate(
                f"{one['bits_per_byte']:.3f}", (i, one["bits_per_byte"]), ha="center", va="bottom", fontsize=8
            )
        panel.set_xticks(range(len(some)), [one["pattern"] for one in some], rotation=20, fontsize=8)
        panel.set_title(name, fontsize=10)
        if "gzip" in some[0]:
            panel.axhline(some[0]["gzip"], color="0.4", linestyle="--", linewidth=1, label="gzip -9")
            panel.legend(fontsize=8)
    run = results["run"]
    axes[0][0].set_ylabel("held-out bits per byte")
    figure.suptitle("Equal parameters, equal time", fontsize=12)
    figure.supxlabel(f"{run['cpu']}, torch {run['torch']}, {run['date'][:10]}, commit {run['commit']}", fontsize=7.5)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "bytes.svg", metadata={"Date": None})
    plt.close(figure)
