"""Models side by side as bars: each number as a multiple of the first model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from gossamer.inspection.svg import figure_svg

if TYPE_CHECKING:
    from gossamer.recipes.receipts.comparison import ComparedRow

__all__ = ["plot_rows"]

_COLOURS = ("#8a8f98", "#1f6f8b", "#c2571a", "#5b8c3e", "#7a4fa3", "#b08a1e")


def plot_rows(models: Sequence[str], rows: Sequence[ComparedRow]) -> str:
    """The `<svg>` element: a group of bars a row, one a model, whiskers where quartiles are known."""
    height = 0.8 / len(models)
    figure = Figure(figsize=(9, 0.8 + 0.16 * len(rows) * (len(models) + 1)), layout="constrained")
    axes = figure.subplots()
    handles: list[Any] = []
    for i in range(len(models)):
        bars = [(place, share, row) for place, row in enumerate(rows) if (share := row.relative(i)) is not None]
        middles = [place + (i - (len(models) - 1) / 2) * height for place, _, _ in bars]
        whiskers = [_whisker(row, i) for _, _, row in bars]
        handles.append(
            axes.barh(
                middles,
                [share for _, share, _ in bars],
                height=height,
                color=_COLOURS[i % len(_COLOURS)],
                xerr=[[low for low, _ in whiskers], [high for _, high in whiskers]] if bars else None,
                error_kw={"elinewidth": 0.8, "ecolor": "#22262b"},
            )
        )
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("of the first model's", fontsize=9)
    # Letters stand before names: matplotlib leaves out those that begin with an underscore.
    labels = [f"{chr(ord('A') + i % 26)}: {name}" for i, name in enumerate(models)]
    legend = figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside upper left", ncols=1)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure_svg(figure)


def _whisker(row: ComparedRow, i: int) -> tuple[float, float]:
    """How far the quartiles lie below and above the bar's end."""
    spread, value, first = None if row.spreads is None else row.spreads[i], row.values[i], row.values[0]
    if spread is None or value is None or not first:
        return 0.0, 0.0
    return max(value - spread[0], 0) / first, max(spread[1] - value, 0) / first
