"""Part `smallest` of benchmarks/slim.py: a classifier trimmed, factorised, distilled, pruned and compacted in turn."""

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
from slim_part import Part, named, names_of, text_table, verdict
from slim_plots import smallest_plot
from slim_times import latencies, times_as_fast

import gossamer as gs
from gossamer.metrics import paired_difference
from gossamer.models import Model
from gossamer.surgery.students import make_student

LEAST_ACCURACY, LEAST_BYTES, LEAST_SPEED = 0.95, 5.0, 4.0
STAGES = ("original", "trimmed", "factorised", "distilled", "pruned, compacted")
"""Each begins with what the one before it gave."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`teacher`: how the original is fine-tuned and all are judged. The vocabulary is that of the sentences learnt
    from, `tokens` of it; the embeddings are `embedding_size` wide; of the layers `layers` stay, which learn from the
    original over `epochs`; of heads and neurons a share `keep`, over `pruning` epochs, and `refining` ones after that.
    A step learns from `batch` tokens.
    """

    purpose: str
    teacher: slim_distil.Plan
    epochs: float
    pruning: float
    refining: float
    seeds: int
    rounds: int
    tokens: int | None = None
    embedding_size: int = 128
    layers: tuple[int, ...] = (0, 2, 5)
    structures: tuple[str, ...] = ("heads", "neurons")
    keep: float = 0.33
    batch: int = 512
    learning_rate: float = 1e-4


PLANS = {
    "cpu": Plan(
        purpose="measurement", teacher=slim_distil.PLANS["cpu"], epochs=4, pruning=4, refining=4, seeds=1, rounds=15
    ),
    "gpu": Plan(
        purpose="measurement", teacher=slim_distil.PLANS["gpu"], epochs=10, pruning=10, refining=10, seeds=3, rounds=15
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", teacher=slim_distil.PLANS["smoke"], epochs=1, pruning=1,
        refining=1, seeds=1, rounds=2,
    ),
}  # fmt: skip


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed: accuracy on the tested sentences, which it tells rightly, and its sizes."""
    data = film_reviews(plan.teacher.train, plan.teacher.test)
    for number in range(seed, seed + plan.seeds):
        teacher = fine_tuned(plan.teacher, data, work / f"teacher-{number}", number)
        for stage, model in _stages(plan, data, teacher, work, number):
            folder = gs.save(model, _folder(work, stage, number))
            again = gs.load(folder, dtype="float32")
            yield {
                "name": stage, "seed": number, **judged(again, data),
                "parameters": sum(one.numel() for one in again.parameters()),
                "bytes": (folder / "model.safetensors").stat().st_size,
            }  # fmt: skip


def _stages(plan: Plan, data: Sentences, teacher: Model, work: Path, seed: int) -> Iterator[tuple[str, Model]]:
    """What each recipe gives, of what the one before it gave."""
    original, trimmed, factorised, distilled, pruned = STAGES
    yield original, teacher
    progress(f"trimmed, seed {seed}")
    few, _ = gs.trim(teacher, [row["text"] for row in data.train], size=plan.tokens)
    yield trimmed, few
    progress(f"factorised and distilled, seed {seed}")
    narrow, _ = gs.share(few, parts="none", embedding_size=plan.embedding_size)
    yield factorised, narrow
    # The teacher of all that follows reads the same tokens, and says what the original does.
    half, _ = gs.distill(
        few, data.train, student=make_student(narrow, plan.layers), task=OBJECTIVE, output=work / f"distilled-{seed}",
        cache=work / f"states-{seed}", settings=_settings(plan, seed, plan.epochs),
    )  # fmt: skip
    yield distilled, half
    progress(f"pruned, seed {seed}")
    settings = _settings(plan, seed, plan.pruning)
    settings |= {"objective.task": OBJECTIVE, "objective.cache": str(work / f"logits-{seed}"), "pruning.warmup": 0.3}
    del settings["epochs"], settings["seed"]
    sparse, _ = gs.prune(
        gs.load(_folder(work, distilled, seed), dtype="float32"), data.train, score="movement",
        structure=plan.structures, keep=plan.keep, scope="global", refine=False, teacher=few, epochs=plan.pruning,
        output=work / f"pruned-{seed}", seed=seed, settings=settings,
    )  # fmt: skip
    small, _ = gs.compact(sparse)
    small, _ = gs.distill(
        few, data.train, student=small, task=OBJECTIVE, cosine_weight=0.0, output=work / f"refined-{seed}",
        cache=work / f"logits-{seed}", settings=_settings(plan, seed, plan.refining),
    )  # fmt: skip
    yield pruned, small


def _settings(plan: Plan, seed: int, epochs: float) -> dict[str, Any]:
    return settings_of(plan.teacher, seed, epochs) | {
        "batch": {"tokens": plan.batch, "length": plan.teacher.length},
        "optimizer": {"learning_rate": plan.learning_rate},
        "dropout": 0.0,
    }


def _folder(work: Path, stage: str, seed: int) -> Path:
    return work / "models" / f"{stage.replace(', ', '-')}-{seed}"


def times(plan: Plan, work: Path, seed: int) -> list[dict[str, Any]]:
    """Latency of every stage, in turns: one text and eight, of 128 tokens, on one thread and on all."""
    models = {stage: gs.load(_folder(work, stage, seed), dtype="float32") for stage in STAGES}
    return latencies(
        models, batches=(8, 1), counts=sorted({torch.get_num_threads(), 1}), rounds=plan.rounds,
        length=plan.teacher.length, seed=seed,
    )  # fmt: skip


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether the last stage is as small, as fast and as good as the goals."""
    first, last = STAGES[0], STAGES[-1]
    if last not in names_of(results) or not results["times"]:
        return []
    right = {name: right_of(results, name) for name in (first, last)}
    share = sum(right[last]) / sum(right[first])
    smaller = named(results, first)[0]["bytes"] / named(results, last)[0]["bytes"]
    told = [
        verdict(share >= LEAST_ACCURACY, f"{LEAST_ACCURACY:.0%} of the accuracy: {share:.1%}"),
        verdict(smaller >= LEAST_BYTES, f"{LEAST_BYTES:g} times fewer bytes: {smaller:.2f}"),
    ]
    for count, batch in dict.fromkeys((one["threads"], one["batch"]) for one in results["times"]):
        some = [one for one in results["times"] if (one["threads"], one["batch"]) == (count, batch)]
        speed = times_as_fast(some, last, first)
        where = f"batch {batch}, threads {count}"
        told.append(verdict(speed >= LEAST_SPEED, f"{LEAST_SPEED:g} times as fast ({where}): {speed:.2f}"))
    return told


def tables(results: dict[str, Any]) -> list[str]:
    """A line a stage."""
    lines, first = [], right_of(results, STAGES[0])
    for name in names_of(results):
        row, right = named(results, name)[0], right_of(results, name)
        times = [f"{one['median'] * 1e3:.1f}" for one in results["times"] if one["name"] == name]
        less = "-" if name == STAGES[0] else str(paired_difference(right, first))
        lines.append([
            name, f"{row['parameters'] / 1e6:.2f}", f"{row['bytes'] / 1e6:.1f}", f"{sum(right) / len(right):.4f}", less,
            " / ".join(times),
        ])  # fmt: skip
    settings = dict.fromkeys(f"{one['batch']} on {one['threads']}" for one in results["times"])
    header = [
        "film reviews, tested", "million parameters", "MB", "accuracy", "less the original's",
        f"ms, texts of 128 tokens: {', '.join(settings)} threads",
    ]  # fmt: skip
    return text_table(header, lines)


PART = Part(plans=PLANS, rows=rows, times=times, tables=tables, verdicts=verdicts, plot=smallest_plot)
