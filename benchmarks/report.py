"""The results of benchmarks/attention.py as tables for the terminal and as a plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from contestants import AUTO, BLOCKED, CPU, DENSE, FLEX, LONGFORMER, SDPA
from harness import table
from verdicts import DIRECTIONS, Verdict, ratios

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito's colours, which differ for every kind of colour vision.
COLOURS = {
    AUTO: "#000000", CPU: "#E69F00", BLOCKED: "#D55E00", SDPA: "#0072B2", DENSE: "#56B4E9", FLEX: "#009E73",
    LONGFORMER: "#CC79A7",
}  # fmt: skip
MIB = 2**20

Records = Sequence[dict[str, Any]]


def text(results: dict[str, Any], found: Sequence[Verdict]) -> str:
    """All of the run, conditions first and verdicts last."""
    times = results["times"]
    parts = [_conditions(results["conditions"])]
    for key in dict.fromkeys((t["section"], t["dtype"], t["direction"]) for t in times):
        some = [t for t in times if (t["section"], t["dtype"], t["direction"]) == key]
        parts += [_times(key, some), _rates(some)] if key[0] != "layer" else [_times(key, some)]
    for direction in DIRECTIONS:
        parts += list(_ratios(times, direction))
    if results["memory"]:
        parts.append(_memory(results["memory"]))
    parts.append(_verdicts(found))
    return "\n\n".join(parts)


def _conditions(conditions: dict[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in conditions.items())


def _times(key: tuple[str, str, str], times: Records) -> str:
    section, dtype, direction = key
    clock = f"{times[0]['clock']} time, {times[0]['threads']} thread{'s' if times[0]['threads'] > 1 else ''}"
    layer = ", whole layer" if section == "layer" else ""
    title = f"{direction}, {dtype}, {clock}{layer}: ms, median ± half the distance between the quartiles"
    cells = {
        (t["name"], t["n"]): f"{1e3 * t['median']:.1f} ±{500 * (t['upper_quartile'] - t['lower_quartile']):.1f}"
        for t in times
    }
    return f"{title}\n{_by_length(cells)}"


def _rates(times: Records) -> str:
    cells = {(t["name"], t["n"]): f"{t['gflops']:.1f}" for t in times}
    return f"useful GFLOP/s of the above (pairs inside the window alone count)\n{_by_length(cells)}"


def _ratios(times: Records, direction: str) -> Iterator[str]:
    for fast in (CPU, BLOCKED, AUTO):
        cells = {
            (slow, n): f"{ratio:.2f}"
            for slow in (SDPA, DENSE, FLEX, LONGFORMER)
            for n, ratio in ratios(times, slow, fast, direction).items()
        }
        if cells:
            title = f"{direction}, float32, wall time: how many times as fast {fast} is, median over rounds"
            yield f"{title}\n{_by_length(cells)}"


def _memory(memory: Records) -> str:
    parts = []
    for direction in dict.fromkeys(m["direction"] for m in memory):
        cells = {
            (m["name"], m["n"]): f"{m['extra'] / MIB:.0f}" + (f" + {m['held'] / MIB:.0f}" if m["held"] else "")
            for m in memory
            if m["direction"] == direction
        }
        title = f"{direction}: peak memory of a call in MiB, beyond q, k, v (+ the mask it is given)"
        parts.append(f"{title}\n{_by_length(cells)}")
    return "\n\n".join(parts)


def _by_length(cells: dict[tuple[str, int], str]) -> str:
    names = list(dict.fromkeys(name for name, _ in cells))
    lengths = sorted({n for _, n in cells})
    rows = [[name, *(cells.get((name, n), "-") for n in lengths)] for name in names]
    return table(["n", *(f"{n:,}" for n in lengths)], rows)


def _verdicts(found: Sequence[Verdict]) -> str:
    return "verdicts\n" + "\n".join(f"  {v.word:<12}  {v.goal}: {v.measured or '-'}" for v in found)


def plot(results: dict[str, Any], path: Path) -> None:
    """Time per token over length, forward beside forward + backward; each line is named at its end."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True, layout="constrained")
    try:
        for panel, direction in zip(axes, DIRECTIONS, strict=True):
            _panel(panel, direction, [t for t in results["times"] if _shown(t, direction)])
        axes[0].set_ylabel("time per token (µs)")
        figure.suptitle("Window attention on a CPU: 12 heads of 64, 513 keys a query, float32, batch 1", fontsize=12)
        figure.supxlabel(_caption(results["conditions"]), fontsize=7.5, color="0.35")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)
    finally:
        plt.close(figure)


def _caption(conditions: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {conditions[name]}" for name in ("torch", "transformers"))
    where = f"{conditions['cpu']}, {conditions['threads']} threads, {versions}"
    return f"{where}, {conditions['date'][:10]}, commit {conditions['commit']}; bars: quartiles"


def _shown(record: dict[str, Any], direction: str) -> bool:
    return (record["section"], record["dtype"], record["direction"]) == ("wall", "float32", direction)


def _panel(panel: Axes, direction: str, times: Records) -> None:
    ends: dict[str, tuple[int, float]] = {}
    for name in dict.fromkeys(t["name"] for t in times):
        line = sorted((t for t in times if t["name"] == name), key=lambda t: t["n"])
        lengths = [t["n"] for t in line]
        middle, low, high = (
            [1e6 * t[field] / t["n"] for t in line] for field in ("median", "lower_quartile", "upper_quartile")
        )
        errors = [[m - a for m, a in zip(middle, low, strict=True)], [b - m for m, b in zip(middle, high, strict=True)]]
        style = {"marker": "o", "markersize": 4, "color": COLOURS[name], "capsize": 2, "linewidth": 1.8}
        panel.errorbar(lengths, middle, errors, linestyle="--" if name == AUTO else "-", **style)
        ends[name] = (lengths[-1], middle[-1])
    lengths = sorted({t["n"] for t in times})
    panel.set(xscale="log", yscale="log", title=direction, xlabel="tokens")
    panel.set_xticks(lengths, [f"{n:,}" for n in lengths])
    panel.minorticks_off()
    panel.grid(color="0.9")
    panel.spines[["top", "right"]].set_visible(False)
    _name_ends(panel, ends)


def _name_ends(panel: Axes, ends: dict[str, tuple[int, float]]) -> None:
    """Names to the right of the line ends, pushed apart where lines meet."""
    if not ends:
        return
    panel.set_xlim(right=max(x for x, _ in ends.values()) * 7)
    panel.margins(y=0.12)
    last = 0.0
    for name, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        last = max(y, last * 1.22)
        panel.annotate(
            name, (x, y), (x * 1.18, last), color=COLOURS[name], fontsize=8, va="center",
            arrowprops={"arrowstyle": "-", "color": COLOURS[name], "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
