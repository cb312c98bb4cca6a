"""Part `share` of benchmarks/slim.py: a classifier in ALBERT's form, healed equally long whatever is shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slim_distil
from harness import progress
from slim_data import film_reviews
from slim_distil import OBJECTIVE, fine_tuned, judged, right_of
from slim_part import Part, named, names_of, text_table
from slim_plots import share_plot

import gossamer as gs
from gossamer.metrics import paired_difference

ARMS: dict[str, dict[str, Any]] = {
    "all, 128": {"parts": "both", "embedding_size": 128},
    "attention, 128": {"parts": "attention", "embedding_size": 128},
    "feed-forward, 128": {"parts": "feed-forward", "embedding_size": 128},
    "none, 128": {"parts": "none", "embedding_size": 128},
    "all, 64": {"parts": "both", "embedding_size": 64},
    "all, 384": {"parts": "both", "embedding_size": 384},
}
"""What is shared, and how wide the embedding is."""
PAPER = {
    "all, 64": 79.0, "all, 128": 80.1, "all, 256": 79.6, "all, 768": 79.8,
    "attention, 128": 81.7, "feed-forward, 128": 80.2, "none, 128": 81.6,
}  # fmt: skip
"""ALBERT, tables 3 and 4: the average of its development sets, from scratch, of 768 columns."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`teacher`: how the model is fine-tuned and judged. Each shared one reads `train` sentences `epochs` times."""

    purpose: str
    teacher: slim_distil.Plan
    train: int
    epochs: int
    seeds: int
    learning_rate: float = 2e-4


PLANS = {
    "cpu": Plan(purpose="measurement", teacher=slim_distil.PLANS["cpu"], train=3000, epochs=3, seeds=1),
    "gpu": Plan(purpose="measurement", teacher=slim_distil.PLANS["gpu"], train=10**6, epochs=10, seeds=3),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", teacher=slim_distil.PLANS["smoke"], train=16, epochs=1, seeds=1
    ),
}


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed: accuracy on the tested sentences, which it tells rightly, and its parameters."""
    data = film_reviews(plan.teacher.train, plan.teacher.test)
    for number in range(seed, seed + plan.seeds):
        teacher = fine_tuned(plan.teacher, data, work / f"teacher-{number}", number)
        yield {"name": "original", "seed": number, "parameters": _count(teacher), **judged(teacher, data)}
        for name, form in ARMS.items():
            progress(f"shared: {name}, seed {number}")
            folder = work / f"{name.replace(', ', '-')}-{number}"
            settings = _settings(plan, number)
            shared, receipt = gs.share(
                teacher, data.train[: plan.train], task=OBJECTIVE, output=folder, settings=settings, **form
            )
            states = {key: value for key, value in receipt.measured.items() if key.startswith("relative_difference")}
            yield {
                "name": name, "seed": number, "parameters": _count(shared), "states": states, **judged(shared, data)
            }  # fmt: skip


def _count(model: Any) -> int:
    return sum(one.numel() for one in model.parameters())


def _settings(plan: Plan, seed: int) -> dict[str, Any]:
    return {
        "batch": {"tokens": plan.teacher.tokens, "length": plan.teacher.length},
        "optimizer": {"learning_rate": plan.learning_rate, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": 0.1},
        "epochs": plan.epochs,
        "checkpoints": {"every": 50, "keep": 1},
        "journal": {"live": False},
        "seed": seed,
    }


def _less(results: dict[str, Any], name: str, other: str) -> str:
    return str(paired_difference(right_of(results, name), right_of(results, other)))


def verdicts(results: dict[str, Any]) -> list[str]:
    """Which way it goes, beside which way it went for ALBERT."""
    there = names_of(results)
    told = []
    for name, other in (
        ("all, 128", "none, 128"), ("all, 128", "attention, 128"), ("all, 128", "feed-forward, 128"),
        ("attention, 128", "feed-forward, 128"), ("all, 64", "all, 128"), ("all, 384", "all, 128"),
    ):  # fmt: skip
        if name in there and other in there:
            paper = PAPER.get(name.replace("384", "768"), 0) - PAPER[other]
            told.append(f"{name} less {other}: {_less(results, name, other)}; in the paper {paper:+.1f} points")
    return told


def tables(results: dict[str, Any]) -> list[str]:
    """A line a model."""
    lines = [
        [name, f"{named(results, name)[0]['parameters'] / 1e6:.2f}", f"{sum(right) / len(right):.4f}",
         "-" if name == "original" else _less(results, name, "original"), f"{PAPER.get(name, '-')}"]
        for name, right in ((name, right_of(results, name)) for name in names_of(results))
    ]  # fmt: skip
    header = ["shared, embedding", "million parameters", "accuracy", "less the original's", "ALBERT's average"]
    return text_table(header, lines)


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=share_plot, paper=PAPER)
