"""million.svg: microseconds a token and peak memory over the length, and the loss of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def million_plots(results: dict[str, Any], folder: Path) -> None:
    """One picture of three panels; those of parts that were not measured stay empty."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    cost, memory, loss = figure.subplots(1, 3)
    lengths = [one["length"] for one in results["steps"]]
    cost.plot(lengths, [one["microseconds a token"] for one in results["steps"]], "o-", color="#0072B2")
    cost.set(xscale="log", xlabel="tokens in one sequence", ylabel="us a token, one training step", ylim=(0, None))
    memory.plot(lengths, [one["peak"] / 1e9 for one in results["steps"]], "o-", color="#D55E00")
    memory.set(xscale="log", yscale="log", xlabel="tokens in one sequence", ylabel="peak memory, GB")
    if results["run"]:
        losses = results["run"]["losses"]
        loss.plot(range(1, len(losses) + 1), losses, color="#000000")
        if results["run"]["killed at step"]:
            loss.axvline(results["run"]["killed at step"], color="#D55E00", linestyle="--", linewidth=1)
        loss.set(xlabel=f"steps of {results['run']['tokens']:,} tokens", ylabel="loss, nats a byte")
    said = results["conditions"]
    figure.suptitle(f"{said['cpu']}, {said['threads']} threads, torch {said['torch']}", fontsize=8)
    figure.savefig(folder / "million.svg", metadata={"Date": None})
