"""slim-PART.svg: one picture a part of benchmarks/slim.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, which differ for every kind of colour vision.
COLOURS = ("#000000", "#0072B2", "#56B4E9", "#E69F00", "#D55E00")


def distil_plot(results: dict[str, Any], folder: Path) -> None:
    """Accuracy of each model, a point a seed, over milliseconds for one text on all threads."""
    most = max(one["threads"] for one in results["times"])
    times = {
        one["name"]: one["median"] * 1e3 for one in results["times"] if (one["batch"], one["threads"]) == (1, most)
    }
    figure, axes = _axes()
    names = dict.fromkeys(row["name"] for row in results["rows"])
    for name, colour in zip(names, COLOURS, strict=False):
        values = [row["accuracy"] for row in results["rows"] if row["name"] == name]
        at = times["teacher" if name == "teacher" else "student"]
        axes.plot([at] * len(values), values, "o", color=colour, label=name)
    axes.set(xlabel=f"ms for one text of 128 tokens, {most} threads", ylabel="accuracy, tested film reviews")
    axes.set_xlim(left=0)
    _save(figure, axes, results, folder / "slim-distil.svg")


def vectors_plot(results: dict[str, Any], folder: Path) -> None:
    """The share of queries whose passage is among the first k, a line a model."""
    figure, axes = _axes()
    names = dict.fromkeys(row["name"] for row in results["rows"])
    for name, colour in zip(names, COLOURS, strict=False):
        ranks = [rank for row in results["rows"] if row["name"] == name for rank in row["ranks"]]
        firsts = [1, 2, 3, 5, 10, 20, 30, 50, 100]
        shares = [sum(rank <= first for rank in ranks) / len(ranks) for first in firsts]
        axes.plot(firsts, shares, "o-", markersize=3, color=colour, label=name)
    axes.set(xlabel="k, passages of the teacher's index", ylabel="recall@k, held-out speakers", xscale="log")
    _save(figure, axes, results, folder / "slim-vectors.svg")


def pairs_plot(results: dict[str, Any], folder: Path) -> None:
    """Recall of the neighbour while the spoiled model learns, a line a seed, beside the original's."""
    figure, axes = _axes()
    for first, colour in zip((1, 10), COLOURS[1:], strict=False):
        shares = {
            row["name"]: sum(rank <= first for rank in row["ranks"]) / len(row["ranks"])
            for row in reversed(results["rows"])
            if "ranks" in row
        }
        axes.axhline(shares["original"], color=colour, linestyle="--", linewidth=1, label=f"recall@{first}, original")
        for row in results["rows"]:
            if row["name"] == "trained":
                steps, values = zip(*row[f"curve_{first}"], strict=True)
                label = f"recall@{first}, trained, seed {row['seed']}"
                axes.plot([0, *steps], [shares["spoiled"], *values], "o-", markersize=3, color=colour, label=label)
    axes.set(xlabel="steps", ylabel="recall of the next passage, held-out speakers", ylim=(0, 1))
    _save(figure, axes, results, folder / "slim-pairs.svg")


def long_plot(results: dict[str, Any], folder: Path) -> None:
    """The year that each model says of each speech, over the year in which it was given."""
    figure, axes = _axes()
    names = dict.fromkeys(row["name"] for row in results["rows"])
    for name, colour in zip(names, COLOURS, strict=False):
        cases = [row for row in results["rows"] if row["name"] == name]
        given, said = ([year for row in cases for year in row[key]] for key in ("years", "said_years"))
        axes.plot(given, said, "o", markersize=3, color=colour, label=name)
    axes.axline((1900, 1900), slope=1, color="0.7", linewidth=1)
    axes.set(xlabel="year of the speech, held-out speakers", ylabel="year that the model says")
    _save(figure, axes, results, folder / "slim-long.svg")


def trim_plot(results: dict[str, Any], folder: Path) -> None:
    """How near the vectors of held-out speakers' sentences are to the original's, over the bytes of the weights."""
    figure, axes = _axes()
    for row, colour in zip(results["rows"], [*COLOURS, "#CC79A7"], strict=False):
        axes.plot([row["bytes"] / 1e6], [row.get("cosine", 1.0)], "o", color=colour, label=row["name"])
    axes.set(xlabel="weights, MB", ylabel="mean cosine to the original's vectors, held-out speakers")
    axes.set_xlim(left=0)
    _save(figure, axes, results, folder / "slim-trim.svg")


def share_plot(results: dict[str, Any], folder: Path) -> None:
    """Accuracy of each model, a point a seed, over its parameters."""
    figure, axes = _axes()
    names = dict.fromkeys(row["name"] for row in results["rows"])
    for i, name in enumerate(names):
        rows = [row for row in results["rows"] if row["name"] == name]
        values = [row["accuracy"] for row in rows]
        marker = "osD^v"[i // len(COLOURS)]
        axes.plot([rows[0]["parameters"] / 1e6] * len(values), values, marker, color=COLOURS[i % 5], label=name)
    axes.set(xlabel="million parameters", ylabel="accuracy, tested film reviews")
    axes.set_xlim(left=0)
    _save(figure, axes, results, folder / "slim-share.svg")


def scores_plot(results: dict[str, Any], folder: Path) -> None:
    """Accuracy over the share of the layers' weights that is left, a line a score."""
    figure, axes = _axes()
    rows = [row for row in results["rows"] if "left" in row]
    scores = dict.fromkeys(row["name"].partition(", ")[0] for row in rows)
    for score, colour in zip(scores, COLOURS, strict=False):
        points = sorted((row["left"], row["accuracy"]) for row in rows if row["name"].startswith(f"{score}, "))
        axes.plot(*zip(*points, strict=True), "o-", markersize=4, color=colour, label=score)
    of_teacher = [row["accuracy"] for row in results["rows"] if row["name"] == "teacher"]
    axes.axhline(
        sum(of_teacher) / len(of_teacher), color="0.5", linestyle="--", linewidth=1, label="teacher, all weights"
    )
    axes.set(xlabel="weights of the layers that are left", ylabel="accuracy, tested film reviews", xscale="log")
    _save(figure, axes, results, folder / "slim-scores.svg")


def blocks_plot(results: dict[str, Any], folder: Path) -> None:
    """The front: accuracy of each model, a point a seed, over milliseconds for eight texts on all threads."""
    most = max(one["threads"] for one in results["times"])
    times = {one["name"]: one["median"] * 1e3 for one in results["times"] if one["threads"] == most}
    figure, axes = _axes()
    for i, (name, at) in enumerate(times.items()):
        values = [row["accuracy"] for row in results["rows"] if row["name"] == name]
        axes.plot([at] * len(values), values, "osD^v"[i // 5], color=COLOURS[i % 5], label=name)
    axes.set(
        xlabel=f"ms for eight texts of 128 tokens, {most} threads, encoder", ylabel="accuracy, tested film reviews"
    )
    axes.set_xlim(left=0)
    _save(figure, axes, results, folder / "slim-blocks.svg")


def smallest_plot(results: dict[str, Any], folder: Path) -> None:
    """Accuracy of each stage, a point a seed, over its bytes."""
    figure, axes = _axes()
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    for name, colour in zip(names, COLOURS, strict=True):
        rows = [row for row in results["rows"] if row["name"] == name]
        axes.plot(
            [row["bytes"] / 1e6 for row in rows], [row["accuracy"] for row in rows], "o", color=colour, label=name
        )
    axes.set(xlabel="weights, MB", ylabel="accuracy, tested film reviews")
    axes.set_xlim(left=0)
    _save(figure, axes, results, folder / "slim-smallest.svg")


def order_plot(results: dict[str, Any], folder: Path) -> None:
    """Which share of held-out pairs each model tells, of either kind, a point a seed."""
    figure, axes = _axes()
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    for kind, colour in (("order", COLOURS[1]), ("next", COLOURS[3])):
        points = [(names.index(row["name"]), row[kind]["right"]) for row in results["rows"]]
        shares = [(at, sum(right) / len(right)) for at, right in points]
        axes.plot(
            *zip(*shares, strict=True), "o", color=colour, label={"order": "order", "next": "next sentence"}[kind]
        )
    axes.axhline(0.5, color="0.7", linewidth=1)
    axes.set_xticks(range(len(names)), [name.replace(", ", ",\n") for name in names], fontsize=8)
    axes.set(ylabel="pairs told rightly, held-out speakers", ylim=(0, 1))
    _save(figure, axes, results, folder / "slim-order.svg")


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, axes: Axes, results: dict[str, Any], path: Path) -> None:
    """With a legend, and what the numbers depend on below."""
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    run = results["conditions"]
    figure.supxlabel(
        f"{run['cpu']}, torch {run['torch']}, {run['date'][:10]}, commit {run['commit']}", fontsize=7.5, color="0.35"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
