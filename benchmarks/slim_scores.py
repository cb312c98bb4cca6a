"""Part `scores` of benchmarks/slim.py: few single weights of a classifier, chosen by different scores (table 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slim_distil
import torch
from harness import progress
from slim_data import LABELS, Sentences, film_reviews
from slim_distil import OBJECTIVE, fine_tuned, judged, right_of
from slim_part import Part, named, names_of, text_table, verdict
from slim_plots import scores_plot

import gossamer as gs
from gossamer.metrics import PairedDifference, paired_difference
from gossamer.models import SequenceClassification
from gossamer.surgery.students import make_student

PAPER = {
    "magnitude, 10%": 78.3, "l0, 10%": 78.7, "movement, 10%": 80.1, "soft-movement, 10%": 81.2,
    "magnitude, 3%": 69.4, "l0, 3%": 76.0, "movement, 3%": 76.5, "soft-movement, 3%": 79.5,
}  # fmt: skip
"""Movement Pruning, table 3: accuracy on MNLI with distillation, BERT-base, whose own is 84.5."""
MOVING = ("movement", "soft-movement")
MOST_LEFT = 1.05
"""Times the share that was asked for: with more than that left there is nothing to compare."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`teacher`: how the teacher is fine-tuned and all are judged. Each model has the `layers` of MiniLM and is pruned
    over `epochs` of `train` sentences (None: all), to each share `kept` by each of `scores`, and to `short` (score,
    share, epochs) besides. Masks are set every so many steps; weights go evenly between warm-up and cool-down, shares
    of all steps. Each score has the two that suit it: where scores move, rate and steps of the warm-up must let a
    weight move by its own size before any goes; magnitude does best with most steps for what is left (docs/LOG.md). The
    penalty is that of soft movement and of L0, which arrive nowhere with less; L0's gates have farther to go in fewer
    steps, by a rate of their own (both tried for the plan `cpu` alone).
    """

    purpose: str
    teacher: slim_distil.Plan
    train: int | None
    epochs: float
    seeds: int
    kept: tuple[float, ...] = (0.1, 0.03)
    scores: tuple[str, ...] = ("magnitude", *MOVING)
    short: tuple[tuple[str, float, float], ...] = ()
    layers: tuple[int, ...] = (0, 2, 5)
    learning_rate: float = 3.5e-4
    score_rate: float = 1.2e-2
    gate_rate: float = 4e-2
    penalty: float = 2e4
    of_weights: tuple[float, float] = (0.1, 0.25)
    of_scores: tuple[float, float] = (0.35, 0.15)
    every: int = 8
    tokens: int = 256

    def ends(self, score: str) -> tuple[float, float]:
        """Warm-up and cool-down."""
        return self.of_weights if score in ("magnitude", "random") else self.of_scores


PLANS = {
    "cpu": Plan(
        purpose="measurement", teacher=slim_distil.PLANS["cpu"], train=None, epochs=3.5, seeds=1,
        short=(("l0", 0.1, 1),),
    ),
    "gpu": Plan(
        purpose="measurement", teacher=slim_distil.PLANS["gpu"], train=None, epochs=10, seeds=3,
        kept=(0.7, 0.1, 0.03), scores=("magnitude", *MOVING, "l0", "random"), layers=tuple(range(6)),
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", teacher=slim_distil.PLANS["smoke"], train=64, epochs=2, seeds=1,
        short=(("l0", 0.1, 2),), tokens=128,
    ),
}  # fmt: skip


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed: accuracy on the tested sentences, which it tells rightly, and what is left of it."""
    data = film_reviews(plan.teacher.train, plan.teacher.test)
    for number in range(seed, seed + plan.seeds):
        teacher = fine_tuned(plan.teacher, data, work / f"teacher-{number}", number)
        yield {"name": "teacher", "seed": number, **judged(teacher, data)}
        for score, share, epochs in _runs(plan):
            name = f"{score}, {share:.0%}"
            progress(f"pruned: {name}, seed {number}")
            folder = work / f"{name.replace(', ', '-').rstrip('%')}-{number}"
            pruned = _pruned(plan, data, teacher, score, share, epochs, folder, work / f"logits-{number}", number)
            yield {"name": name, "seed": number, "epochs": epochs, **judged(pruned[0], data), "left": pruned[1]}


def _runs(plan: Plan) -> list[tuple[str, float, float]]:
    """Score, share and epochs of each run."""
    return [*((score, share, plan.epochs) for share in plan.kept for score in plan.scores), *plan.short]


def _pruned(
    plan: Plan, data: Sentences, teacher: gs.Model, score: str, share: float, epochs: float, folder: Path, cache: Path,
    seed: int,
) -> tuple[gs.Model, float]:  # fmt: skip
    """MiniLM, fine-tuned while it is pruned, as in the paper, and the share of its layers' weights that is not 0.

    Its head reads the mean of the states, as it was trained to be read.
    """
    torch.manual_seed(seed)
    head = SequenceClassification(labels=LABELS, reads="mean")
    warmup, cooldown = plan.ends(score)
    model = make_student(gs.load("sample:minilm", head=head, dtype="float32"), plan.layers)
    settings = {
        "batch": {"tokens": plan.tokens, "length": plan.teacher.length},
        "optimizer.weight_decay": 0.0,
        "objective.task": OBJECTIVE,
        "objective.cache": str(cache),
        "pruning.schedule": "linear",
        "pruning.warmup": warmup,
        "pruning.cooldown": cooldown,
        "pruning.every": plan.every,
        "pruning.learning_rate": plan.gate_rate if score == "l0" else plan.score_rate,
        "dropout": 0.0,
        "checkpoints": {"every": 500, "keep": 1},
        "journal": {"live": False},
    }
    if score in ("soft-movement", "l0"):
        settings["pruning.penalty"] = plan.penalty
    pruned, receipt = gs.prune(
        model, data.train[: plan.train], score=score, keep=share, refine=False, teacher=teacher, epochs=epochs,
        learning_rate=plan.learning_rate, output=folder, seed=seed, settings=settings,
    )  # fmt: skip
    all_weights = receipt.before["nonzero weights of layers"]
    return pruned, receipt.after["nonzero weights of layers"] / all_weights


def _above_magnitude(results: dict[str, Any], name: str) -> PairedDifference | None:
    _, _, share = name.partition(", ")
    return paired_difference(right_of(results, name), right_of(results, f"magnitude, {share}"))


def verdicts(results: dict[str, Any]) -> list[str]:
    """The paper's claim at each share, and whether it holds here."""
    there, told = names_of(results), []
    for name in there:
        score, _, share = name.partition(", ")
        difference = _above_magnitude(results, name) if f"magnitude, {share}" in there else None
        if score in MOVING and difference is not None:
            left = named(results, name)[0]["left"]
            if left > MOST_LEFT * float(share.rstrip("%")) / 100:
                told.append(verdict(False, f"{score} ends with {share} of the weights: with {left:.1%} ({difference})"))
                continue
            paper = f"; in the paper {PAPER[name] - PAPER[f'magnitude, {share}']:+.1f} points" if name in PAPER else ""
            claim = f"{score} above magnitude at {share} of the weights: {difference}{paper}"
            told.append(verdict(difference.low > 0, claim) if share in ("10%", "3%") else claim)
    return told


def tables(results: dict[str, Any]) -> list[str]:
    """A line a model."""
    there, lines = names_of(results), []
    for name in there:
        right, first = right_of(results, name), named(results, name)[0]
        score, _, share = name.partition(", ")
        compared = f"magnitude, {share}" in there and score != "magnitude"
        lines.append([
            name, f"{first['left']:.2%}" if "left" in first else "100%", f"{sum(right) / len(right):.4f}",
            str(_above_magnitude(results, name)) if compared else "-", f"{PAPER.get(name, '-')}",
        ])  # fmt: skip
    header = ["single weights", "left of the layers", "accuracy", "less magnitude's", "the paper's, MNLI"]
    return text_table(header, lines)


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=scores_plot, paper=PAPER)
