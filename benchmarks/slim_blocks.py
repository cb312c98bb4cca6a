"""Part `blocks` of benchmarks/slim.py: whole parts of a classifier are pruned and removed; speed against accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slim_distil
import torch
from harness import progress
from slim_data import Sentences, film_reviews
from slim_distil import OBJECTIVE, fine_tuned, judged, right_of, settings_of
from slim_part import Part, names_of, text_table, verdict
from slim_plots import blocks_plot
from slim_times import latencies, times_as_fast

import gossamer as gs
from gossamer.metrics import PairedDifference, paired_difference
from gossamer.models import Model
from gossamer.models.evaluation import without_head

BATCH = 8
"""Texts at once, of which the speed is told."""
LEAST_SPEED, MOST_LOST = 2.0, 0.015
PAPER = {"hybrid, MNLI: accuracy lost in points": 0.9, "hybrid, MNLI: times as fast": 2.0}
"""Block Pruning (2109.04838), its authors' repository: 84.6 to 83.71 on a GPU."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to prune, all maps ranked together: to a share of the units, or of the measured time."""

    score: str = "movement"
    structures: tuple[str, ...] = ("hybrid",)
    keep: float | None = None
    latency: float | None = None

    @property
    def name(self) -> str:
        """As it is told."""
        share = f"{self.keep:.0%}" if self.keep is not None else f"{self.latency:.0%} of the time"
        return f"{self.score}, {' and '.join(self.structures)}, {share}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`teacher`: how the teacher is fine-tuned, its student of half the layers learns, and all are judged.

    Each of `arms` is pruned over `epochs` with its teacher, its zeros are removed, and what is left learns from the
    teacher over `refining` epochs. Scores learn over `warmup` of the steps before anything goes. Latency is that of the
    encoder, in `rounds`.
    """

    purpose: str
    teacher: slim_distil.Plan
    epochs: float
    refining: float
    seeds: int
    rounds: int
    arms: tuple[Arm, ...]
    train: int | None = None
    tokens: int = 512
    learning_rate: float = 1e-4
    warmup: float = 0.3


ARMS = (
    Arm(keep=0.3),
    Arm(structures=("heads", "neurons"), latency=0.64),
    Arm(structures=("heads", "neurons"), latency=0.46),
    Arm(structures=("heads", "neurons"), latency=0.31),
    Arm(score="magnitude", structures=("heads", "neurons"), latency=0.46),
)
PLANS = {
    "cpu": Plan(
        purpose="measurement", teacher=slim_distil.PLANS["cpu"], epochs=3, refining=4, seeds=1, rounds=15, arms=ARMS,
        train=3000,
    ),
    "gpu": Plan(
        purpose="measurement", teacher=slim_distil.PLANS["gpu"], epochs=10, refining=10, seeds=3, rounds=15, arms=ARMS
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", teacher=slim_distil.PLANS["smoke"], epochs=1, refining=1,
        seeds=1, rounds=2, arms=ARMS[:2],
    ),
}  # fmt: skip
STUDENT = "3 layers"


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed: accuracy on the tested sentences, which it tells rightly, and its sizes."""
    data = film_reviews(plan.teacher.train, plan.teacher.test)
    for number in range(seed, seed + plan.seeds):
        teacher = fine_tuned(plan.teacher, data, work / f"teacher-{number}", number)
        yield {"name": "teacher", "seed": number, **judged(teacher, data), **_kept(teacher, work, "teacher", number)}
        progress(f"student of half the layers, seed {number}")
        half, _ = gs.distill(
            teacher, data.train[: plan.train], task=OBJECTIVE, output=work / f"half-{number}",
            cache=work / f"states-{number}", settings=_settings(plan, number, plan.epochs + plan.refining),
        )  # fmt: skip
        yield {"name": STUDENT, "seed": number, **judged(half, data), **_kept(half, work, STUDENT, number)}
        for arm in plan.arms:
            progress(f"pruned: {arm.name}, seed {number}")
            yield _pruned(plan, data, teacher, arm, work, number)


def _pruned(plan: Plan, data: Sentences, teacher: Model, arm: Arm, work: Path, seed: int) -> dict[str, Any]:
    """Pruned, compacted and refined."""
    name = arm.name
    folder = work / f"{_file(name)}-{seed}"
    train = data.train[: plan.train]
    cache = work / f"logits-{seed}"
    settings = _settings(plan, seed, plan.epochs)
    settings |= {"objective.task": OBJECTIVE, "objective.cache": str(cache), "pruning.warmup": plan.warmup}
    del settings["epochs"], settings["seed"]
    sparse, _ = gs.prune(
        gs.load(work / f"teacher-{seed}" / "last", dtype="float32"), train, score=arm.score, structure=arm.structures,
        keep=arm.keep, latency=arm.latency, scope="global", refine=False, teacher=teacher, epochs=plan.epochs,
        output=folder, seed=seed, settings=settings,
    )  # fmt: skip
    small, receipt = gs.compact(sparse)
    before = judged(small, data)["accuracy"]
    # What is refined is already small, and fast: blocks in its heads may fill again ("hybrid filled").
    small, _ = gs.distill(
        teacher, train, student=small, task=OBJECTIVE, soft_weight=0.9, task_weight=0.1, cosine_weight=0.0,
        output=folder / "refined", cache=cache, settings=_settings(plan, seed, plan.refining),
    )  # fmt: skip
    widths = {key: receipt.after[key] for key in ("heads", "head_size", "neurons")}
    told = {"before_refining": before, "apart": receipt.measured["relative_difference_at_128_tokens"], **widths}
    return {"name": name, "seed": seed, **judged(small, data), **_kept(small, work, name, seed), **told}


def _settings(plan: Plan, seed: int, epochs: float) -> dict[str, Any]:
    return settings_of(plan.teacher, seed, epochs) | {
        "batch": {"tokens": plan.tokens, "length": plan.teacher.length},
        "optimizer": {"learning_rate": plan.learning_rate},
        "dropout": 0.0,
    }


def _kept(model: Model, work: Path, name: str, seed: int) -> dict[str, int]:
    """Its sizes; it is saved for the latencies."""
    folder = gs.save(model, work / "models" / f"{_file(name)}-{seed}")
    return {
        "parameters": sum(one.numel() for one in model.parameters()),
        "layer_parameters": sum(
            one.numel() for part, one in model.named_parameters() if part.startswith(("attention", "feed_forward"))
        ),
        "bytes": (folder / "model.safetensors").stat().st_size,
    }


def _file(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-").rstrip("%")


def times(plan: Plan, work: Path, seed: int) -> list[dict[str, Any]]:
    """Latency of every encoder, in turns: eight texts of 128 tokens, on all threads and on one."""
    names = ["teacher", STUDENT, *(arm.name for arm in plan.arms)]
    models = {name: without_head(gs.load(work / "models" / f"{_file(name)}-{seed}", dtype="float32")) for name in names}
    return latencies(
        models, batches=(BATCH,), counts=sorted({torch.get_num_threads(), 1}), rounds=plan.rounds,
        length=plan.teacher.length, seed=seed,
    )  # fmt: skip


def _speed(results: dict[str, Any], name: str) -> float:
    """Times as fast as the teacher, on all threads."""
    most = max(one["threads"] for one in results["times"])
    return times_as_fast([one for one in results["times"] if one["threads"] == most], name, "teacher")


def _lost(results: dict[str, Any], name: str) -> PairedDifference | None:
    return paired_difference(right_of(results, name), right_of(results, "teacher"))


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether any model that was pruned by movement is as fast as the goal and as good."""
    if not results["times"]:
        return []
    pruned = [name for name in names_of(results) if name.startswith("movement")]
    fast = [name for name in pruned if _speed(results, name) >= LEAST_SPEED]
    lost = {name: _lost(results, name) for name in fast}
    best = max(fast, key=lambda name: lost[name].value, default=None)  # type: ignore[union-attr]
    goal = f"{LEAST_SPEED:g} times as fast (8 x 128, encoder alone), at most {MOST_LOST:.1%} lost"
    if best is None:
        return [verdict(False, f"{goal}: the fastest is {max(_speed(results, name) for name in pruned):.2f}")]
    difference = lost[best]
    assert difference is not None
    claim = f"{goal}: {best} is {_speed(results, best):.2f} times as fast, {difference} of accuracy"
    return [verdict(difference.value >= -MOST_LOST, claim)]


def tables(results: dict[str, Any]) -> list[str]:
    """A line a model, the slowest first."""
    lines = []
    for name in names_of(results):
        first = next(row for row in results["rows"] if row["name"] == name)
        right = right_of(results, name)
        times = [f"{one['median'] * 1e3:.1f}" for one in results["times"] if one["name"] == name]
        lines.append([
            name, f"{first['layer_parameters'] / 1e6:.2f}", f"{first['bytes'] / 1e6:.1f}",
            f"{sum(right) / len(right):.4f}", "-" if name == "teacher" else str(_lost(results, name)),
            f"{first['before_refining']:.4f}" if "before_refining" in first else "-", " / ".join(times),
            f"{_speed(results, name):.2f}" if results["times"] else "-",
        ])  # fmt: skip
    header = [
        "pruned, removed, refined", "million weights of layers", "MB", "accuracy", "less the teacher's",
        "before refining", "ms, 8 x 128, encoder (1 / all threads)", "times as fast",
    ]  # fmt: skip
    return text_table(header, lines)


PART = Part(plans=PLANS, rows=rows, times=times, tables=tables, verdicts=verdicts, plot=blocks_plot, paper=PAPER)
