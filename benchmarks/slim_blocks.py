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
class Plan:
    """`teacher`: how the teacher is fine-tuned, its student of half the layers learns, and all are judged.

    `arms`: of each pruned one score, structures, and the share of units kept, of all maps together. It is pruned over
    `epochs` with its teacher, its zeros are removed, and what is left learns from the teacher over `refining` epochs.
    Latency is that of the encoder, in `rounds`.
    """

    purpose: str
    teacher: slim_distil.Plan
    epochs: float
    refining: float
    seeds: int
    rounds: int
    arms: tuple[tuple[str, tuple[str, ...], float], ...]
    train: int | None = None
    learning_rate: float = 1e-4


ARMS = (
    ("movement", ("hybrid",), 0.5),
    ("movement", ("hybrid",), 0.3),
    ("movement", ("hybrid",), 0.15),
    ("magnitude", ("hybrid",), 0.3),
    ("movement", ("heads", "neurons"), 0.4),
)
PLANS = {
    "cpu": Plan(
        purpose="measurement", teacher=slim_distil.PLANS["cpu"], epochs=3, refining=3, seeds=1, rounds=15, arms=ARMS
    ),
    "gpu": Plan(
        purpose="measurement", teacher=slim_distil.PLANS["gpu"], epochs=10, refining=10, seeds=3, rounds=15, arms=ARMS
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", teacher=slim_distil.PLANS["smoke"], epochs=1, refining=1,
        seeds=1, rounds=2, arms=ARMS[1:2],
    ),
}  # fmt: skip
STUDENT = "3 layers"


def name_of(arm: tuple[str, tuple[str, ...], float]) -> str:
    """As it is told."""
    score, structures, keep = arm
    return f"{score}, {' and '.join(structures)}, {keep:.0%}"


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed: accuracy on the tested sentences, which it tells rightly, and its sizes."""
    data = film_reviews(plan.teacher.train, plan.teacher.test)
    for number in range(seed, seed + plan.seeds):
        teacher = fine_tuned(plan.teacher, data, work / f"teacher-{number}", number)
        yield {"name": "teacher", "seed": number, **judged(teacher, data), **_kept(teacher, work, "teacher", number)}
        progress(f"student of half the layers, seed {number}")
        settings = settings_of(plan.teacher, number, plan.teacher.epochs)
        half, _ = gs.distill(
            teacher, data.train, task=OBJECTIVE, output=work / f"half-{number}", cache=work / f"states-{number}",
            settings=settings,
        )  # fmt: skip
        yield {"name": STUDENT, "seed": number, **judged(half, data), **_kept(half, work, STUDENT, number)}
        for arm in plan.arms:
            progress(f"pruned: {name_of(arm)}, seed {number}")
            yield _pruned(plan, data, teacher, arm, work, number)


def _pruned(
    plan: Plan, data: Sentences, teacher: Model, arm: tuple[str, tuple[str, ...], float], work: Path, seed: int
) -> dict[str, Any]:
    """Pruned, compacted and refined."""
    score, structures, keep = arm
    name = name_of(arm)
    folder = work / f"{_file(name)}-{seed}"
    train = data.train[: plan.train]
    settings = settings_of(plan.teacher, seed, plan.epochs) | {
        "optimizer": {"learning_rate": plan.learning_rate},
        "objective.task": OBJECTIVE,
        "objective.cache": str(work / f"logits-{seed}"),
    }
    del settings["epochs"], settings["seed"]
    sparse, _ = gs.prune(
        gs.load(work / f"teacher-{seed}" / "last", dtype="float32"), train, score=score, structure=structures,
        keep=keep, scope="global", refine=False, teacher=teacher, epochs=plan.epochs, output=folder, seed=seed,
        settings=settings,
    )  # fmt: skip
    small, receipt = gs.compact(sparse)
    before = judged(small, data)["accuracy"]
    # What is refined is already small, and fast: blocks in its heads may fill again ("hybrid filled").
    settings = settings_of(plan.teacher, seed, plan.refining) | {"optimizer": {"learning_rate": plan.learning_rate}}
    small, _ = gs.distill(
        teacher, train, student=small, task=OBJECTIVE, soft_weight=0.9, task_weight=0.1, cosine_weight=0.0,
        output=folder / "refined", cache=work / f"logits-{seed}", settings=settings,
    )  # fmt: skip
    widths = {key: receipt.after[key] for key in ("heads", "head_size", "neurons")}
    told = {"before_refining": before, "apart": receipt.measured["relative_difference_at_128_tokens"], **widths}
    return {"name": name, "seed": seed, **judged(small, data), **_kept(small, work, name, seed), **told}


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
    names = ["teacher", STUDENT, *map(name_of, plan.arms)]
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
