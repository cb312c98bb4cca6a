"""Part `distil` of benchmarks/slim.py: a classifier of half as many layers learns from its teacher, in four ways."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import progress
from slim_data import LABELS, Sentences, film_reviews
from slim_part import Part, named, names_of, text_table, verdict
from slim_plots import distil_plot
from slim_times import latencies

import gossamer as gs
from gossamer.metrics import paired_difference
from gossamer.models import Model, SequenceClassification
from gossamer.surgery.students import make_student
from gossamer.training.loop import train

ARMS: dict[str, dict[str, Any] | None] = {
    "triple loss": {},
    "without cosine": {"cosine_weight": 0.0},
    "task alone": None,
    "random initialisation": {},
}
"""What each student's loss differs in; None: no teacher at all."""
OBJECTIVE = {"kind": "classification", "labels": list(LABELS)}
PAPER = {"accuracy kept": 0.97, "times as fast": 1.63}
"""DistilBERT, tables 1 and 3: the share of BERT-base's GLUE score, and its time on a CPU at batch 1."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`train` sentences (None: all that are not tested on), read `epochs` times by each model; latency in `rounds`."""

    purpose: str
    train: int | None
    test: int
    teacher_epochs: int
    epochs: int
    seeds: int
    rounds: int
    tokens: int = 1024
    length: int = 128


PLANS = {
    "cpu": Plan(purpose="measurement", train=None, test=4000, teacher_epochs=3, epochs=3, seeds=1, rounds=15),
    "gpu": Plan(purpose="measurement", train=None, test=4000, teacher_epochs=3, epochs=10, seeds=3, rounds=15),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", train=64, test=32, teacher_epochs=1, epochs=1, seeds=1, rounds=1
    ),
}


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed: accuracy on the tested sentences, and which of them it tells rightly."""
    data = film_reviews(plan.train, plan.test)
    for number in range(seed, seed + plan.seeds):
        teacher = fine_tuned(plan, data, work / f"teacher-{number}", number)
        yield {"name": "teacher", "seed": number, **judged(teacher, data)}
        for name, terms in ARMS.items():
            progress(f"student: {name}, seed {number}")
            student = _student(teacher, name, number)
            folder = work / f"{name.replace(' ', '-')}-{number}"
            settings = settings_of(plan, number, plan.epochs)
            if terms is None:
                config = {**settings, "objective": OBJECTIVE, "output": str(folder)}
                student, _ = train(config, model=student, rows=data.train)
            else:
                student, _ = gs.distill(
                    teacher, data.train, student=student, task=OBJECTIVE, output=folder, settings=settings, **terms
                )
            yield {"name": name, "seed": number, **judged(student, data)}


def times(plan: Plan, work: Path, seed: int) -> list[dict[str, Any]]:
    """Latency of teacher and student, in turns: one text and eight, of 128 tokens, on one thread and on all."""
    teacher, student = (
        gs.load(work / name / "last", dtype="float32") for name in (f"teacher-{seed}", f"triple-loss-{seed}")
    )
    models = {"teacher": teacher, "student": student}
    return latencies(
        models, batches=(1, 8), counts=sorted({1, torch.get_num_threads()}), rounds=plan.rounds, length=plan.length,
        seed=seed,
    )  # fmt: skip


def fine_tuned(plan: Plan, data: Sentences, folder: Path, seed: int) -> Model:
    """MiniLM with a head that tells the labels."""
    torch.manual_seed(seed)
    model = gs.load("sample:minilm", head=SequenceClassification(labels=LABELS), dtype="float32")
    progress(f"teacher, seed {seed}")
    config = {**settings_of(plan, seed, plan.teacher_epochs), "objective": OBJECTIVE, "output": str(folder)}
    teacher, _ = train(config, model=model, rows=data.train)
    return teacher


def _student(teacher: Model, name: str, seed: int) -> Model:
    student = make_student(teacher)
    if name != "random initialisation":
        return student
    torch.manual_seed(seed)
    drawn = Model(student.architecture, tokenizer=student.tokenizer)
    drawn.family = student.family
    return drawn


def settings_of(plan: Plan, seed: int, epochs: float) -> dict[str, Any]:
    return {
        "batch": {"tokens": plan.tokens, "length": plan.length},
        "optimizer": {"learning_rate": 5e-5, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": 0.1},
        "epochs": epochs,
        "checkpoints": {"every": 50, "keep": 1},
        "journal": {"live": False},
        "seed": seed,
    }


def judged(model: Model, data: Sentences) -> dict[str, Any]:
    """Accuracy, and each tested sentence: 1 told rightly, 0 not."""
    labels = gs.task("classify", copy.deepcopy(model))([row["text"] for row in data.test])
    right = [int(found[0].label == row["label"]) for found, row in zip(labels.labels, data.test, strict=True)]
    return {"accuracy": sum(right) / len(right), "right": right}


def accuracies(results: dict[str, Any]) -> dict[str, float]:
    """The mean over the seeds, by name."""
    return {name: statistics.mean(row["accuracy"] for row in named(results, name)) for name in names_of(results)}


def differences(results: dict[str, Any]) -> dict[str, str]:
    """Accuracy less that of the triple loss, with an interval over sentences, whose seeds are averaged."""
    rows = {name: right_of(results, name) for name in names_of(results)}
    first = rows.pop("triple loss", None)
    return {} if first is None else {name: str(paired_difference(right, first)) for name, right in rows.items()}


def right_of(results: dict[str, Any], name: str) -> list[float]:
    """Of each tested sentence the share of seeds that tell it."""
    columns = [row["right"] for row in named(results, name)]
    return [statistics.mean(values) for values in zip(*columns, strict=True)]


def verdicts(results: dict[str, Any]) -> list[str]:
    """The paper's claims, and whether they hold here."""
    means, told = accuracies(results), []
    if "triple loss" in means:
        share = means["triple loss"] / means["teacher"]
        told.append(verdict(share >= 0.97, f"97% of the teacher's accuracy: {share:.1%}"))
    if "random initialisation" in means:
        drawn = paired_difference(right_of(results, "random initialisation"), right_of(results, "triple loss"))
        assert drawn is not None
        told.append(verdict(drawn.high < 0, f"random initialisation is clearly below: {drawn}"))
    for first, second in zip(results["times"][::2], results["times"][1::2], strict=True):
        ratio = first["median"] / second["median"]
        where = f"batch {first['batch']}, threads {first['threads']}"
        told.append(verdict(ratio >= 1.6, f"1.6 times as fast ({where}): {ratio:.2f}"))
    return told


def tables(results: dict[str, Any]) -> list[str]:
    """A line a model; latencies."""
    against = differences(results)
    rows = [[name, f"{value:.4f}", against.get(name, "-")] for name, value in accuracies(results).items()]
    times = [
        [f"{one['name']}, batch {one['batch']}, threads {one['threads']}", f"{one['median'] * 1e3:.1f}",
         f"{one['lower_quartile'] * 1e3:.1f} to {one['upper_quartile'] * 1e3:.1f}"]
        for one in results["times"]
    ]  # fmt: skip
    header = ["film reviews, tested", "accuracy", "less the triple loss's"]
    return [*text_table(header, rows), *text_table(["128 tokens", "ms", "quartiles"], times)]


PART = Part(
    plans=PLANS, rows=rows, times=times, tables=tables, verdicts=verdicts, plot=distil_plot, paper=PAPER
)  # fmt: skip
