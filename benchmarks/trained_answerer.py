"""Part `answerer` of benchmarks/trained.py: facts planted in speeches, asked of a MiniLM that reads 16,640 tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harness import progress, verdict
from matplotlib.figure import Figure
from planted import Question, names, nearest, planted, random_span
from slim_part import Part, named, text_table
from trained_parts import command, told_of, trained_once, write_rows

import gossamer as gs
from gossamer.metrics import paired_difference

MODEL, NEAREST, RANDOM = "answerer", "nearest of the kind", "random span"
DEPTHS = (0.05, 0.25, 0.5, 0.75, 0.95)
TOKENS_A_WORD = 1.25
FACTS = 80
"""Tokens that the planted facts take."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """MiniLM learns `short_steps` of about `tokens`, contexts of one to four sentences that matter; when lengthened
    `steps` more, contexts of 100 tokens to `longest`. `minutes`: at most, for both.

    judged: how many questions are asked of contexts of how many tokens.
    """

    purpose: str
    short_steps: int
    steps: int
    tokens: int
    questions: int
    judged: dict[int, int]
    minutes: float = 40
    longest: int = 1000
    to: int = 16_640
    window: int = 512
    learning_rate: float = 3e-4
    precision: str = "bfloat16"


PLANS = {
    "cpu": Plan(
        purpose="measurement", short_steps=260, steps=60, tokens=2048, questions=8000,
        judged={100: 200, 300: 200, 1000: 100, 2000: 100, 4000: 60, 8000: 40, 16_000: 40},
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", short_steps=2, steps=2, tokens=512, questions=12,
        judged={100: 5, 300: 5},
        longest=300, to=1024,
    ),
}  # fmt: skip


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record for each floor and for the answerer: of each question whether its answer is right."""
    judged = to_judge(plan, seed)
    rng, known = random.Random(seed), names(True)
    yield _record(RANDOM, judged, [random_span(one, rng) for one in judged])
    yield _record(NEAREST, judged, [nearest(one, known) for one in judged])
    folder = _trained(plan, work, seed)
    progress(f"{len(judged)} questions to answer")
    answer = gs.task("answer", gs.load(folder / "last"))
    found = answer([one.question for one in judged], [one.context for one in judged])
    told = told_of(folder) | {
        "before": told_of(work / f"short-{seed}")["training"],
        "passes": sorted(set(found.passes)),
        "tokens_read": found.tokens,
    }
    yield _record(MODEL, judged, [best[0].text for best in found.answers]) | told


def _trained(plan: Plan, work: Path, seed: int) -> Path:
    """The folder of the longer model, which learnt from short contexts before it was lengthened."""
    short, long, folder = work / f"short-{seed}", work / "lengthened", work / f"answerer-{seed}"
    for place, begins, data, steps in (
        (short, "sample:minilm", to_begin(plan, seed), plan.short_steps),
        (folder, long, to_learn(plan, seed), plan.steps),
    ):
        if place == folder and not (long / "config.json").exists():
            command("lengthen", short / "last", "--to", plan.to, "--window", plan.window, "--out", long)
        file = write_rows(work / f"{place.name}.jsonl", (one.row() for one in data))
        settings = {
            "batch": f"{{tokens: {plan.tokens}, length: {min(plan.tokens, 512) if place == short else plan.tokens}}}",
            "epochs": "null", "steps": steps, "minutes": plan.minutes * (0.8 if place == short else 0.2),
            "precision": plan.precision, "dropout": 0.0, "checkpoints.every": 100,
        }  # fmt: skip
        options = ("--out", place, "--learning-rate", plan.learning_rate, "--seed", seed)
        train = partial(command, "finetune", begins, "--train", file, *options, settings=settings)
        trained_once(place, train)
    return folder


def to_begin(plan: Plan, seed: int) -> list[Question]:
    """Contexts that are little more than the facts, of one to four sentences."""
    rng = random.Random(seed)
    words = [rng.randrange(1, 30) for _ in range(plan.questions)]
    return planted(words, [rng.random() for _ in words], False, seed + 1, sentences=(1, 2, 3, 4))


def to_learn(plan: Plan, seed: int) -> list[Question]:
    """Contexts of 100 tokens to `longest`, the shorter ones more often: half of them are below 225 of 1,000."""
    rng = random.Random(seed)
    lengths = [100 * (plan.longest / 100) ** (rng.random() ** 1.5) for _ in range(plan.questions // 4)]
    return planted([_words(length) for length in lengths], [rng.random() for _ in lengths], False, seed)


def to_judge(plan: Plan, seed: int) -> list[Question]:
    """The same number at each depth."""
    lengths = [length for length, count in plan.judged.items() for _ in range(count)]
    depths = [DEPTHS[i % len(DEPTHS)] for i in range(len(lengths))]
    return planted([_words(length) for length in lengths], depths, True, seed)


def _words(tokens: float) -> int:
    return max(8, round((tokens - FACTS) / TOKENS_A_WORD))


def _record(name: str, judged: Sequence[Question], said: Sequence[str]) -> dict[str, Any]:
    right = [int(one.answer == other.strip(".,;: ")) for one, other in zip(judged, said, strict=True)]
    return {
        "name": name, "exact": sum(right) / len(right), "right": right, "words": [one.words for one in judged],
        "depths": [one.depth for one in judged], "kinds": [one.kind for one in judged],
        "wrong": [
            {"question": one.question, "answer": one.answer, "said": other, "words": one.words}
            for one, other, is_right in zip(judged, said, right, strict=True) if not is_right
        ][:5],
    }  # fmt: skip


def _share(row: dict[str, Any], **wanted: Any) -> float:
    """The share of right answers among the questions of these words, depths or kinds."""
    names_of = {"words": "words", "depth": "depths", "kind": "kinds"}
    chosen = [
        right
        for i, right in enumerate(row["right"])
        if all(row[names_of[name]][i] == value for name, value in wanted.items())
    ]
    return sum(chosen) / len(chosen) if chosen else float("nan")


def _lengths(results: dict[str, Any]) -> dict[int, int]:
    """Tokens -> words, of the contexts that were judged."""
    return {int(tokens): _words(int(tokens)) for tokens in results["conditions"]["judged"]}


def tables(results: dict[str, Any]) -> list[str]:
    """Right answers by the context's length, by depth and by what is asked for."""
    lengths = _lengths(results)
    by_length = [
        [row["name"], f"{row['exact']:.3f}", *(f"{_share(row, words=words):.3f}" for words in lengths.values())]
        for row in results["rows"]
    ]
    others = [("depth", depth) for depth in DEPTHS] + [("kind", kind) for kind in ("name", "town", "year")]
    by_other = [
        [row["name"], *(f"{_share(row, **{name: value}):.3f}" for name, value in others)] for row in results["rows"]
    ]
    return [
        *text_table(["", "all", *(f"{tokens:,} tokens" for tokens in lengths)], by_length),
        *text_table(["", *(f"{name} {value}" for name, value in others)], by_other),
    ]


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether the answerer is above both floors, at all lengths together and at the longest."""
    if not named(results, MODEL):
        return []
    (ours,) = named(results, MODEL)
    told = []
    for name in (RANDOM, NEAREST):
        (floor,) = named(results, name)
        gap = paired_difference(ours["right"], floor["right"])
        said = f"right answers above {name}: {ours['exact']:.3f} and {floor['exact']:.3f}, {gap}"
        told.append(verdict(gap is not None and gap.low > 0, said))
    tokens, words = max(_lengths(results).items())
    (floor,) = named(results, NEAREST)
    long, known = (_share(row, words=words) for row in (ours, floor))
    told.append(verdict(long > known, f"at {tokens:,} tokens above {NEAREST}: {long:.3f} and {known:.3f}"))
    return told


def plot(results: dict[str, Any], folder: Path) -> None:
    """trained-answerer.svg: right answers by how deep in the context the fact stands, a line a length."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for row in named(results, MODEL):
        lengths = _lengths(results)
        for i, (tokens, words) in enumerate(lengths.items()):
            shares = [_share(row, words=words, depth=depth) for depth in DEPTHS]
            shade = str(0.75 * (1 - (i + 1) / len(lengths)))
            axes.plot(DEPTHS, shares, "o-", color=shade, label=f"{tokens:,} tokens", markersize=3)
    for row, colour in zip((*named(results, NEAREST), *named(results, RANDOM)), ("#0072B2", "#E69F00"), strict=True):
        shares = [_share(row, depth=depth) for depth in DEPTHS]
        axes.plot(DEPTHS, shares, "--", color=colour, label=row["name"])
    axes.set(xlabel="depth of the fact in the context", ylabel="answers that are right", ylim=(-0.03, 1.03))
    axes.legend(frameon=False, fontsize=7, ncols=2)
    said = results["conditions"]
    axes.set_title(f"{said['cpu']}, torch {said['torch']}", fontsize=8)
    figure.savefig(folder / "trained-answerer.svg", metadata={"Date": None})


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=plot)
