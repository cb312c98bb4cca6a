"""Part `summarizer` of benchmarks/trained.py: the one-line synopsis of a software description, by a tuned T5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpora import descriptions
from harness import progress, verdict
from slim_part import Part, named, text_table
from titles import write_titles
from trained_parts import held_out, no_plot, samples, told_of, trained_once, written_once

import gossamer as gs
from gossamer.metrics import paired_difference
from gossamer.text import Tokenizer

MODEL, BEFORE, FLOOR, OTHER = "summarizer", "before", "first seven words", "first twelve words"
WORDS, OTHER_WORDS = 7, 12


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The T5 learns `steps` of about `tokens` of the texts' first `length`, at most `minutes`; `test` are judged."""

    purpose: str
    steps: int
    tokens: int
    test: int
    minutes: float = 40
    texts: int | None = None
    length: int = 80
    longest: int = 24
    learning_rate: float = 5e-4
    precision: str = "bfloat16"


PLANS = {
    "cpu": Plan(purpose="measurement", steps=300, tokens=1280, test=1000, minutes=21),
    "smoke": Plan(purpose="smoke test: its numbers mean nothing", steps=2, tokens=128, test=4, texts=40, length=24),
}


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record for each floor, the model as it was and the tuned one: ROUGE-L of each text."""
    pairs = descriptions()[: plan.texts]
    # Packages of one source begin alike: those whose first words are the same are on the same side.
    train, test = held_out(pairs, plan.test, lambda pair: first_words(pair[0], WORDS))
    progress(f"{len(pairs):,} descriptions, {len(train):,} to learn from")
    texts, wanted = ([pair[side] for pair in test] for side in (0, 1))
    for name, count in ((FLOOR, WORDS), (OTHER, OTHER_WORDS)):
        yield _record(name, texts, wanted, [first_words(text, count) for text in texts])
    checkpoint = write_titles(work.parent.parent / "titles")
    folder = work / f"summarizer-{seed}"
    learnt = [{"text": one, "summary": other} for one, other in train]
    trained_once(
        folder,
        lambda: gs.finetune(
            checkpoint, learnt, output=folder, learning_rate=plan.learning_rate, seed=seed, settings=_settings(plan)
        ),
    )
    yield _record(BEFORE, texts, wanted, _written(BEFORE, work, checkpoint, texts, plan)[0])
    found, seconds = _written(MODEL, work, folder / "last", texts, plan)
    told = told_of(folder) | {"descriptions": len(train), "seconds_to_write": seconds}
    yield _record(MODEL, texts, wanted, found) | told


def first_words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def _written(name: str, work: Path, checkpoint: Path, texts: Sequence[str], plan: Plan) -> tuple[list[str], float]:
    """What a model writes of each text's beginning, greedily."""
    tokenizer = Tokenizer.load(checkpoint)
    ids = [tokenizer(text, max_length=plan.length)["input_ids"][0].tolist() for text in texts]
    return written_once(work / f"{name}.json", checkpoint, ids, max_new_tokens=plan.longest, temperature=0)


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "batch": {"tokens": plan.tokens, "length": plan.length},
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
    found = rouge(written, wanted)
    return {
        "name": name, "rouge_l": round(sum(found) / len(found), 4), "each": found,
        "samples": samples(texts, wanted, written),
    }  # fmt: skip


def rouge(written: Sequence[str], wanted: Sequence[str]) -> list[float]:
    """ROUGE-L's F of each text (Lin 2004), words stemmed, by rouge-score."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return [round(scorer.score(other, one)["rougeL"].fmeasure, 4) for one, other in zip(written, wanted, strict=True)]


def tables(results: dict[str, Any]) -> list[str]:
    """The mean of each."""
    return text_table(["", "ROUGE-L"], [[row["name"], f"{row['rouge_l']:.4f}"] for row in results["rows"]])


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether the tuned model is above each other one."""
    if not named(results, MODEL):
        return []
    ours = named(results, MODEL)[0]
    told = []
    for row in results["rows"]:
        if row["name"] != MODEL:
            gap = paired_difference(ours["each"], row["each"])
            claim = f"ROUGE-L above that of {row['name']}: {ours['rouge_l']:.4f} and {row['rouge_l']:.4f}, {gap}"
            told.append(verdict(gap.low > 0, claim))
    return told


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=no_plot)
