"""The demo's plots as SVG: time and memory by length, and retrieval by way of reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from gossamer.inspection.svg import figure_svg
from gossamer.models.model import Model

__all__ = ["Pictures", "draw_pictures"]

SHORT, LONG, GREY = "#c2571a", "#1f6f8b", "#8a8f98"
PICTURED = 2048
WAYS = ("128", "256", "512", "whole")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """SVG documents: `plots` by name, and the attention pattern's picture, of the first `pictured` tokens."""

    plots: dict[str, str]
    pattern: str
    pictured: int


def draw_pictures(receipt: dict[str, Any], model: Model) -> Pictures:
    """All pictures of the report."""
    pattern = model.architecture.layers[0].attention.pattern
    pictured = min(PICTURED, model.architecture.length)
    return Pictures(
        plots={"scaling": _scaling(receipt["scaling"]), "retrieval": _retrieval(receipt["retrieval"])},
        pattern=pattern.svg(pictured, flags=torch.arange(pictured) == 0),
        pictured=pictured,
    )


def _scaling(rows: list[dict[str, Any]]) -> str:
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, unit, key, scale in zip(
        figure.subplots(1, 2), ("seconds", "MiB"), ("seconds", "peak_bytes"), (1.0, 2.0**20), strict=True
    ):
        for name, colour in (("dense", SHORT), ("windowed", LONG)):
            # Nothing is nowhere on a logarithmic axis; memory comes in pages of 4 KiB.
            points = [(row["tokens"], max(row[f"{name}_{key}"], 1e-6 if scale == 1 else 4096) / scale) for row in rows]
            _line(axes, points, name, colour)
        axes.set(xscale="log", yscale="log", xlabel="tokens in one text", ylabel=unit)
        axes.set_xticks([row["tokens"] for row in rows], [f"{row['tokens']:,}" for row in rows], fontsize=7)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.minorticks_off()
        axes.set_title("time to read it" if unit == "seconds" else "peak memory beyond the weights", fontsize=10)
    return figure_svg(figure)


def _line(axes: Axes, points: list[tuple[float, float]], name: str, colour: str) -> None:
    axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, linewidth=1.8, label=name)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _retrieval(rows: list[dict[str, Any]]) -> str:
    by_way = {row["way"]: row["recall_at_1"] for row in rows}
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    for shift, kind, label, colour in (
        (-0.12, "chunk", "chunks, each read alone by the short model", SHORT),
        (0.12, "span", "spans of the long model's states", LONG),
    ):
        found = [by_way[f"{kind} {size}"] for size in WAYS]
        axes.errorbar(
            [i + 1 + shift for i in range(len(WAYS))],
            [one["value"] for one in found],
            yerr=[one["standard_error"] or 0 for one in found],
            fmt="o", color=colour, capsize=3, label=label,
        )  # fmt: skip
    cut = by_way["truncated"]
    axes.errorbar([0], [cut["value"]], yerr=[cut["standard_error"] or 0], fmt="s", color=GREY, capsize=3,
                  label="the first 512 tokens only")  # fmt: skip
    axes.set_xticks(range(5), ["truncated", *(f"{size} tokens" if size != "whole" else size for size in WAYS)])
    axes.set(ylabel="recall@1", ylim=(0, 1.03))
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0.12, 0.02))
    return figure_svg(figure)
