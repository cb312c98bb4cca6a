"""The results of the benchmarks as plots for the docs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from contestants import AUTO, BLOCKED, CPU, FLEX, LONGFORMER, SDPA
from encoder_models import OURS, THEIRS
from grid import CPU_TIME, FLOAT, HALF, WALL
from shapes import DIRECTIONS, SHAPES
from verdicts import find, growth, of_peak

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, which differ for every kind of colour vision.
COLOURS = {
    AUTO: "#000000", CPU: "#E69F00", BLOCKED: "#D55E00", SDPA: "#0072B2", FLEX: "#009E73", LONGFORMER: "#CC79A7",
    OURS: "#E69F00", THEIRS: "#CC79A7",
}  # fmt: skip
CYCLE = ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#000000", "#999999")
WINDOW = "window 512"

Records = Sequence[dict[str, Any]]
Lines = dict[str, dict[int, dict[str, Any]]]
"""Name -> length -> record."""


def attention_plots(results: dict[str, Any], folder: Path) -> None:
    """attention.svg: against peers; attention-growth.svg: time per token; attention-peak.svg: fractions of the peak.

    Plots that there are no results for are left as they are.
    """
    times = [t for t in results["times"] if t["shape"] != "whole model"]
    if any((t["shape"], t["clock"], t["dtype"]) == (WINDOW, WALL, FLOAT) for t in times):
        _against_peers(times, _caption(results), folder / "attention.svg")
    if any(len(growth(times, shape)) > 1 for shape in SHAPES):
        _growth(times, _caption(results), folder / "attention-growth.svg")
    if any(t["clock"] == CPU_TIME and t["n"] == 4096 for t in times):
        _fractions(times, _caption(results), folder / "attention-peak.svg")


def encoder_plot(results: dict[str, Any], folder: Path) -> None:
    """encoder.svg: seconds and memory of both libraries over length, in both dtypes."""
    if results["times"] or results["memory"]:
        with _drawing(
            folder / "encoder.svg", 2, _caption(results), "A whole Longformer-base: 12 layers, window 512"
        ) as axes:
            times = [t for t in results["times"] if t["clock"] == WALL]
            _bars(axes[0], "seconds, all cores", {(t["n"], t["dtype"], t["name"]): t["median"] for t in times})
            memory = {(m["n"], m["dtype"], m["name"]): m["extra"] / 2**20 for m in results["memory"]}
            _bars(axes[1], "peak memory beyond weights and input (MiB)", memory)


@contextmanager
def _drawing(path: Path, panels: int, caption: str, title: str) -> Iterator[list[Axes]]:
    figure: Figure
    figure, axes = plt.subplots(1, panels, figsize=(5.5 * max(panels, 1.4), 4.6), layout="constrained", squeeze=False)
    try:
        yield list(axes[0])
        figure.suptitle(title, fontsize=12)
        figure.supxlabel(caption, fontsize=7.5, color="0.35")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    finally:
        plt.close(figure)


def _caption(results: dict[str, Any]) -> str:
    run = results["runs"][-1]
    versions = ", ".join(f"{name} {run[name]}" for name in ("torch", "transformers"))
    return f"{run['cpu']}, {run['threads']} cores, {versions}, {run['date'][:10]}, commit {run['commit']}"


def _against_peers(times: Records, caption: str, path: Path) -> None:
    title = "Window attention on a CPU: 12 heads of 64, 513 keys a query, float32, batch 1; bars: quartiles"
    with _drawing(path, 2, caption, title) as axes:
        for panel, direction in zip(axes, DIRECTIONS, strict=True):
            where = {"shape": WINDOW, "clock": WALL, "dtype": FLOAT, "direction": direction}
            some = [t for t in times if t["name"] in COLOURS and all(t[key] == value for key, value in where.items())]
            lines: Lines = {t["name"]: {} for t in some}
            for t in some:
                lines[t["name"]][t["n"]] = t
            _time_per_token(panel, direction, lines, COLOURS)


def _growth(times: Records, caption: str, path: Path) -> None:
    with _drawing(
        path, 2, caption, f"Time per token of every pattern, {CPU}: 12 heads of 64, float32, batch 1"
    ) as axes:
        for panel, direction in zip(axes, DIRECTIONS, strict=True):
            lines = {shape: found for shape in SHAPES if len(found := growth(times, shape, direction)) > 1}
            colours = {shape: CYCLE[i % len(CYCLE)] for i, shape in enumerate(SHAPES)}
            _time_per_token(panel, direction, lines, colours)


def _time_per_token(panel: Axes, title: str, lines: Lines, colours: dict[str, str]) -> None:
    ends: dict[str, tuple[int, float]] = {}
    for name, line in lines.items():
        lengths = sorted(line)
        middle, low, high = (
            [1e6 * line[n][field] / n for n in lengths] for field in ("median", "lower_quartile", "upper_quartile")
        )
        errors = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
        style = {"marker": "o", "markersize": 4, "color": colours[name], "capsize": 2, "linewidth": 1.8}
        panel.errorbar(lengths, middle, errors, linestyle="--" if name == AUTO else "-", **style)
        ends[name] = (lengths[-1], middle[-1])
    lengths = sorted({n for line in lines.values() for n in line})
    panel.set(xscale="log", yscale="log", title=title, xlabel="tokens", ylabel="time per token (µs)")
    panel.set_xticks(lengths, [f"{n:,}" for n in lengths], fontsize=7.5)
    panel.minorticks_off()
    panel.grid(color="0.9")
    panel.spines[["top", "right"]].set_visible(False)
    _name_ends(panel, ends, colours)


def _name_ends(panel: Axes, ends: dict[str, tuple[int, float]], colours: dict[str, str]) -> None:
    """Names to the right of the line ends, pushed apart where lines meet."""
    if not ends:
        return
    panel.set_xlim(right=max(x for x, _ in ends.values()) * 9)
    panel.margins(y=0.12)
    last = 0.0
    for name, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        last = max(y, last * 1.22)
        panel.annotate(
            name, (x, y), (x * 1.18, last), color=colours[name], fontsize=8, va="center",
            arrowprops={"arrowstyle": "-", "color": colours[name], "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip


def _fractions(times: Records, caption: str, path: Path) -> None:
    """Bars for each pattern: both dtypes, both directions."""
    title = "Useful work as a fraction of the multiply-add peak in the same rounds: one thread, n = 4,096"
    kinds = [(dtype, direction) for dtype in (FLOAT, HALF) for direction in DIRECTIONS]
    where = {"name": CPU, "n": 4096, "clock": CPU_TIME}
    shapes = [shape for shape in SHAPES if find(times, shape=shape, **where)]
    with _drawing(path, 1, caption, title) as axes:
        for i, (dtype, direction) in enumerate(kinds):
            records = [find(times, shape=shape, dtype=dtype, direction=direction, **where) for shape in shapes]
            found = [of_peak(times, record) if record else None for record in records]
            at = [place + 0.2 * (i - 1.5) for place in range(len(shapes))]
            heights = [one[0] if one else 0.0 for one in found]
            axes[0].bar(at, heights, 0.18, color=CYCLE[i], label=f"{dtype}, {direction}")
        axes[0].set_xticks(range(len(shapes)), shapes, rotation=30, ha="right", fontsize=8)
        axes[0].grid(axis="y", color="0.9")
        axes[0].set_axisbelow(True)
        axes[0].spines[["top", "right"]].set_visible(False)
        axes[0].legend(fontsize=7.5, frameon=False, ncols=2)


def _bars(panel: Axes, title: str, values: dict[tuple[int, str, str], float]) -> None:
    """Groups by length and dtype, a bar a library."""
    groups = sorted({(dtype, n) for n, dtype, _ in values}, key=lambda group: (group[0] != FLOAT, group[1]))
    for i, name in enumerate((OURS, THEIRS)):
        heights = [values.get((n, dtype, name), 0.0) for dtype, n in groups]
        at = [place + 0.4 * (i - 0.5) for place in range(len(groups))]
        bars = panel.bar(at, heights, 0.38, color=COLOURS[name], label=name)
        panel.bar_label(bars, [f"{h:,.3g}" if h else "" for h in heights], fontsize=7)
    panel.set_title(title, fontsize=10)
    panel.set_xticks(range(len(groups)), [f"{n:,}\n{dtype}" for dtype, n in groups], fontsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, frameon=False)
