"""Part `rewriter` of benchmarks/trained.py: case and punctuation of the speeches' sentences put back by a tuned T5."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import progress, verdict
from slim_part import Part, named, text_table
from slim_speeches import by_speakers, sentences
from titles import write_titles
from trained_parts import held_out, no_plot, samples, told_of, trained_once, written_once, written_scores

import gossamer as gs
from gossamer.metrics import paired_difference

MODEL, BEFORE, COPY = "rewriter", "before", "copying"
MARKS = re.compile(r"[^\w\s'’-]|(?<!\w)[-'’]+|[-'’]+(?!\w)")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The T5 learns `steps` of about `tokens` of sentences of `least` to `most` words; `test` others are judged."""

    purpose: str
    steps: int
    tokens: int
    test: int
    minutes: float = 40
    sentences: int | None = None
    speakers: int = 9
    least: int = 5
    most: int = 30
    longest: int = 80
    learning_rate: float = 7e-4
    precision: str = "bfloat16"


PLANS = {
    "cpu": Plan(purpose="measurement", steps=80, tokens=640, test=500),
    "smoke": Plan(purpose="smoke test: its numbers mean nothing", steps=2, tokens=128, test=4, sentences=30),
}


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record for copying, the model as it was and the tuned one: word errors of each sentence, chrF of all."""
    learnt, judged = (
        [one for speech in some for one in sentences(speech.text) if plan.least <= len(one.split()) <= plan.most]
        for some in by_speakers(plan.speakers)
    )
    _, wanted = held_out(judged, plan.test, str)
    learnt = [one for one in learnt if one not in set(judged)][: plan.sentences]
    progress(f"{len(learnt):,} sentences to learn from")
    texts = [bare(one) for one in wanted]
    yield _record(COPY, texts, wanted, texts)
    checkpoint = write_titles(work.parent.parent / "titles")
    folder = work / f"rewriter-{seed}"
    data = [{"text": bare(one), "target": one} for one in learnt]
    trained_once(
        folder,
        lambda: gs.finetune(
            checkpoint, data, output=folder, learning_rate=plan.learning_rate, seed=seed, settings=_settings(plan)
        ),
    )
    for name, place in ((BEFORE, checkpoint), (MODEL, folder / "last")):
        written, _ = written_once(work / f"{name}.json", place, texts, max_new_tokens=plan.longest, temperature=0)
        told = told_of(folder) | {"sentences": len(learnt)} if name == MODEL else {}
        yield _record(name, texts, wanted, written) | told


def bare(text: str) -> str:
    """Small letters, and no marks but those inside of words."""
    return " ".join(MARKS.sub(" ", text).lower().split())


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "batch": {"tokens": plan.tokens, "length": plan.longest},
        "objective.target_length": plan.longest,
        "epochs": None,
        "steps": plan.steps,
        "minutes": plan.minutes,
        "precision": plan.precision,
        "dropout": 0.0,
        "checkpoints": {"every": 100, "keep": 1},
        "journal.live": False,
    }


def _record(name: str, texts: Sequence[str], wanted: Sequence[str], written: Sequence[str]) -> dict[str, Any]:
    errors = [word_errors(one.split(), other.split()) for one, other in zip(written, wanted, strict=True)]
    words = [len(one.split()) for one in wanted]
    return {
        "name": name, "word_error_rate": round(sum(errors) / sum(words), 4), "errors": errors, "words": words,
        **written_scores(written, wanted), "samples": samples(texts, wanted, written),
    }  # fmt: skip


def word_errors(written: Sequence[str], wanted: Sequence[str]) -> int:
    """The fewest words that are put in, left out or changed to make one of the other (Levenshtein 1966)."""
    costs = list(range(len(wanted) + 1))
    for i, one in enumerate(written, 1):
        before, costs[0] = costs[0], i
        for j, other in enumerate(wanted, 1):
            before, costs[j] = costs[j], min(costs[j] + 1, costs[j - 1] + 1, before + (one != other))
    return costs[-1]


def tables(results: dict[str, Any]) -> list[str]:
    """Word errors and chrF of each."""
    told = [[row["name"], f"{row['word_error_rate']:.4f}", f"{row['chrf']:.2f}"] for row in results["rows"]]
    return text_table(["", "word error rate", "chrF"], told)


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether fewer words are wrong than in the bare text, and how chrF tells it."""
    if not named(results, MODEL):
        return []
    (ours,), (floor,) = named(results, MODEL), named(results, COPY)
    gap = paired_difference(ours["errors"], floor["errors"])
    rates = f"{ours['word_error_rate']:.4f} and {floor['word_error_rate']:.4f}"
    return [
        verdict(
            gap is not None and gap.high < 0, f"fewer word errors than copying: {rates}, of a sentence's words {gap}"
        ),
        verdict(ours["chrf"] > floor["chrf"], f"chrF above copying: {ours['chrf']:.2f} and {floor['chrf']:.2f}"),
    ]


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=no_plot)
