"""loss.svg: the losses of a run over its steps, those of training averaged where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

__all__ = ["plot_losses", "thinned"]

MOST_POINTS = 400
# Okabe and Ito's colours, which differ for every kind of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

Points = Sequence[tuple[int, float]]


def plot_losses(curves: dict[str, list[tuple[int, float]]], file: IO[bytes]) -> None:
    """Draw split -> (step, loss) points as SVG; the same points give the same file."""
    # Without pyplot, which would look for a display and keep every figure.
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for i, (split, points) in enumerate(curves.items()):
        shown = thinned(points)
        steps, losses = [step for step, _ in shown], [loss for _, loss in shown]
        axes.plot(steps, losses, marker="o" if len(shown) < 40 else None, color=COLOURS[i % len(COLOURS)], label=split)
        axes.annotate(f"{losses[-1]:.3f}", (steps[-1], losses[-1]), (5, 0), textcoords="offset points", fontsize=8)
    axes.set(xlabel="step", ylabel="loss (nats a token)")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "gossamer"}):
        figure.savefig(file, format="svg", metadata={"Date": None})


def thinned(points: Points, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most so many points: means over neighbours, the last of which stands where the curve ends."""
    size = -(-len(points) // most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [(sum(step for step, _ in one) / len(one), sum(loss for _, loss in one) / len(one)) for one in groups]
    return [*means[:-1], (points[-1][0], means[-1][1])]
