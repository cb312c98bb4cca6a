"""What `bytes.py` found, as plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {
    "dense": "#000000", "strided": "#E69F00", "fixed": "#009E73", "window": "#0072B2", "dilated mixture": "#CC79A7",
    "hashed": "#D55E00", "in turns": "#56B4E9", "merged": "#E69F00", "per head": "#CC79A7", "doubling": "#F0E442",
    "hashed, 1": "#F0E442", "hashed, 2": "#E69F00", "hashed, 4": "#D55E00",
}  # fmt: skip
BARS = ("corpora", "digits", "hashed", "ways", "dilations", "pictures")


def bytes_plots(results: Mapping[str, Any], folder: Path) -> None:
    """bytes-corpora.svg and others: a panel for each corpus, a bar a pattern; bytes-layers.svg: a layer's time."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in BARS:
        if results.get(part):
            _save(_bars(results[part]), results["runs"][part], folder, f"bytes-{part}")
    if results.get("layers"):
        _save(_lines(results["layers"]), results["runs"]["layers"], folder, "bytes-layers")


def _bars(trained: list[dict[str, Any]]) -> Figure:
    names = list(dict.fromkeys(one["corpus"] for one in trained))
    figure = Figure(figsize=(4 * len(names), 4.2), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)
    for panel, name in zip(axes[0], names, strict=True):
        some = sorted((one for one in trained if one["corpus"] == name), key=lambda one: one["bits_per_byte"])
        for i, one in enumerate(some):
            bits = one["bits_per_byte"]
            panel.bar(i, bits, color=COLOURS[one["pattern"]])
            panel.annotate(f"{bits:.3f}", (i, bits), ha="center", va="bottom", fontsize=8)
        panel.set_xticks(range(len(some)), [one["pattern"] for one in some], rotation=20, fontsize=8)
        panel.set_title(name, fontsize=10)
        if "gzip" in some[0]:
            panel.axhline(some[0]["gzip"], color="0.4", linestyle="--", linewidth=1, label="gzip -9")
            panel.legend(fontsize=8)
    axes[0][0].set_ylabel("held-out bits per byte")
    figure.suptitle("Equal parameters, equal time", fontsize=12)
    return figure


def _lines(records: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(5, 4), layout="constrained")
    panel = figure.subplots()
    for name in dict.fromkeys(one["pattern"] for one in records):
        some = [one for one in records if one["pattern"] == name]
        times = [1e6 * one["median"] / one["n"] for one in some]
        panel.plot([one["n"] for one in some], times, "o-", color=COLOURS[name], label=name)
    panel.set(xscale="log", yscale="log", xlabel="tokens", ylabel="us a token, forward and backward")
    panel.legend(fontsize=8)
    figure.suptitle("A model of one layer", fontsize=12)
    return figure


def _save(figure: Figure, run: Mapping[str, Any], folder: Path, name: str) -> None:
    """With a line that says where it was measured."""
    figure.supxlabel(f"{run['cpu']}, torch {run['torch']}, {run['date'][:10]}, commit {run['commit']}", fontsize=7.5)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
