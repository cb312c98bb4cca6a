"""Part `vectors` of benchmarks/slim.py: a smaller sentence encoder searches its teacher's index (LEAF).

The teacher reads each sentence once, for all students: its vectors lie in a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import progress
from slim_part import Part, held_out_curve, named, names_of, text_table, verdict
from slim_plots import vectors_plot
from slim_speeches import FIRST, by_speakers, hits, ranks_in, recalls, sentence_queries, sentences, vectors_of

import gossamer as gs
from gossamer.metrics import paired_difference
from gossamer.models import Model
from gossamer.surgery.students import Widths, make_student

KEPT = 0.95
"""The share of the teacher's recall that is the goal."""
STUDENTS: dict[str, dict[str, Any]] = {
    "3 layers": {"layers": [0, 4, 5]},
    "288 wide": {"layers": range(6), "widths": Widths(hidden_size=288, heads=12, feedforward_size=1536)},
}
"""What `make_student` is told of each: the layers whose student is nearest to the teacher before it has learnt."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`steps` of `tokens` learn from sentences (`texts` of them, None: all); held-out `speakers`' passages of `words`
    words are searched, `test` of them (None: all). The curve is of `held_out` sentences.
    """

    purpose: str
    steps: int
    seeds: int
    test: int | None
    texts: int | None = None
    held_out: int = 512
    tokens: int = 1024
    length: int = 128
    speakers: int = 9
    words: int = 100
    learning_rate: float = 6e-4


PLANS = {
    "cpu": Plan(purpose="measurement", steps=2000, seeds=1, test=None),
    "gpu": Plan(purpose="measurement", steps=20000, seeds=3, test=None),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", steps=2, seeds=1, test=16, texts=64, held_out=8, tokens=256
    ),
}


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed: the rank of each query's own passage in the teacher's index."""
    learnt, searched = by_speakers(plan.speakers)
    data = sentence_queries(searched, plan.words, plan.test)
    texts = list(dict.fromkeys(text for speech in learnt for text in sentences(speech.text)))[: plan.texts]
    teacher = gs.load("sample:minilm", dtype="float32")
    progress(f"the teacher's index: {len(data.documents):,} passages")
    index = vectors_of(teacher, data.documents, teacher.reading_length())

    def judged(model: Model) -> dict[str, Any]:
        queries = vectors_of(model, data.queries, teacher.reading_length())
        parameters = sum(one.numel() for one in model.parameters())
        return {"parameters": parameters, "ranks": ranks_in(index, queries), "speeches": data.speeches}

    yield {"name": "teacher", "seed": seed, **judged(teacher)}
    for name, shape in STUDENTS.items():
        yield {"name": f"{name}, untrained", "seed": seed, **judged(make_student(teacher, **shape))}
        for number in range(seed, seed + plan.seeds):
            progress(f"student: {name}, seed {number}, {len(texts):,} sentences")
            folder = work / f"{name.replace(' ', '-')}-{number}"
            student, _ = gs.distill(
                teacher, [{"text": text} for text in texts], student=make_student(teacher, **shape),
                objective="embed", output=folder, cache=work / "teacher", settings=_settings(plan, number),
            )  # fmt: skip
            curve = held_out_curve(folder, "cosine")
            yield {"name": name, "seed": number, **judged(student), "curve": curve}


def _settings(plan: Plan, seed: int) -> dict[str, Any]:
    """Some of the sentences to learn from are held out, for the curve alone."""
    return {
        "batch": {"tokens": plan.tokens, "length": plan.length},
        "optimizer": {"learning_rate": plan.learning_rate, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": 0.1},
        "steps": plan.steps,
        "dropout": 0.0,  # a student learns less than its teacher knows, never too much
        "evaluation": {"held_out": plan.held_out, "every": max(plan.steps // 10, 1)},
        "checkpoints": {"every": 200, "keep": 1},
        "journal": {"live": False},
        "seed": seed,
    }


def differences(results: dict[str, Any], first: int) -> dict[str, Any]:
    """What a model finds less the goal's share of what the teacher finds, with an interval clustered by speech."""
    goal = [KEPT * hit for hit in hits(named(results, "teacher"), first)]
    speeches = named(results, "teacher")[0]["speeches"]
    others = [name for name in names_of(results) if name != "teacher"]
    return {name: paired_difference(hits(named(results, name), first), goal, speeches) for name in others}


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether the students keep the share of the recall that is the goal."""
    told = []
    for first in FIRST:
        found = recalls(results, first)
        for name, difference in differences(results, first).items():
            if name in STUDENTS:
                share = found[name] / found["teacher"]
                claim = f"{name}: {KEPT:.0%} of the teacher's recall@{first}: {share:.1%}; above that by {difference}"
                told.append(verdict(share >= KEPT, claim))
    return told


def tables(results: dict[str, Any]) -> list[str]:
    """A line a model."""
    found = [recalls(results, first) for first in FIRST]
    lines = [
        [name, f"{named(results, name)[0]['parameters'] / 1e6:.1f}", *(f"{recall[name]:.4f}" for recall in found)]
        for name in names_of(results)
    ]
    header = ["queries in the teacher's index", "million parameters", *(f"recall@{first}" for first in FIRST)]
    return text_table(header, lines)


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=vectors_plot)
