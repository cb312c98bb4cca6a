"""Part `tagger` of benchmarks/trained.py: parts of speech of the Brown corpus, on MiniLM's body."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpora import brown
from harness import progress, verdict
from slim_part import Part, named, text_table
from trained_parts import command, held_out, no_plot, predicted, told_of, trained_once, write_rows

from gossamer.metrics import paired_difference

MODEL, FLOOR, MAJORITY = "tagger", "each word's commonest tag", "majority"

Sentence = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """MiniLM learns `steps` of about `tokens` of the sentences, at most `minutes`; `test` sentences are judged."""

    purpose: str
    steps: int
    tokens: int
    test: int
    minutes: float = 40
    sentences: int | None = None
    learning_rate: float = 3e-4
    precision: str = "bfloat16"


PLANS = {
    "cpu": Plan(purpose="measurement", steps=300, tokens=1024, test=2000),
    "smoke": Plan(purpose="smoke test: its numbers mean nothing", steps=2, tokens=256, test=8, sentences=60),
}


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record for each floor and for the tagger: of each sentence how many words are told rightly."""
    train, test = held_out(list(brown())[: plan.sentences], plan.test, words_of)
    progress(f"{len(train):,} sentences to learn from")
    (most, _), *_ = Counter(tag for one in train for _, tag in one).most_common(1)
    yield _record(MAJORITY, test, [[most] * len(one) for one in test])
    yield _record(FLOOR, test, by_word(train, test))
    files = {
        name: write_rows(work / f"{name}.jsonl", map(_row, some)) for name, some in (("train", train), ("test", test))
    }
    folder = work / f"tagger-{seed}"
    settings = {
        "batch": f"{{tokens: {plan.tokens}, length: 128}}", "epochs": "null", "steps": plan.steps,
        "minutes": plan.minutes, "precision": plan.precision, "checkpoints.every": 100,
    }  # fmt: skip
    options = ("--out", folder, "--learning-rate", plan.learning_rate, "--seed", seed)
    trained_once(
        folder, lambda: command("finetune", "sample:minilm", "--train", files["train"], *options, settings=settings)
    )
    tags = [row["prediction"] for row in predicted(folder / "last", files["test"], work / "predicted.jsonl")]
    yield _record(MODEL, test, tags) | told_of(folder) | {"sentences": len(train)}


def words_of(sentence: Sentence) -> str:
    return " ".join(word for word, _ in sentence)


def by_word(train: Sequence[Sentence], test: Sequence[Sentence]) -> list[list[str]]:
    """The tag that a word mostly had, else that of its small letters, else that of words which were there once."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sentence in train:
        for word, tag in sentence:
            counts[word][tag] += 1
            counts[word.lower()][tag] += word.lower() != word
    rare = Counter(tag for some in counts.values() if some.total() == 1 for tag in some.elements())
    tags = {word: some.most_common(1)[0][0] for word, some in counts.items()}
    unknown = rare.most_common(1)[0][0] if rare else "nn"
    return [[tags.get(word) or tags.get(word.lower(), unknown) for word, _ in sentence] for sentence in test]


def _row(sentence: Sentence) -> dict[str, Any]:
    return {"tokens": [word for word, _ in sentence], "tags": [tag for _, tag in sentence]}


def _record(name: str, test: Sequence[Sentence], found: Sequence[Sequence[str | None]]) -> dict[str, Any]:
    right = [
        sum(tag == said for (_, tag), said in zip(sentence, some, strict=True))
        for sentence, some in zip(test, found, strict=True)
    ]
    words = [len(sentence) for sentence in test]
    return {"name": name, "accuracy": sum(right) / sum(words), "right": right, "words": words}


def tables(results: dict[str, Any]) -> list[str]:
    """The accuracy of each."""
    return text_table(["", "accuracy of words"], [[row["name"], f"{row['accuracy']:.4f}"] for row in results["rows"]])


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether the tagger is above each word's commonest tag."""
    if not named(results, MODEL):
        return []
    (ours,), (floor,) = named(results, MODEL), named(results, FLOOR)
    shares = [[right / words for right, words in zip(one["right"], one["words"], strict=True)] for one in (ours, floor)]
    gap = paired_difference(*shares)
    said = f"{ours['accuracy']:.4f} and {floor['accuracy']:.4f}; of a sentence's words {gap}"
    return [verdict(gap is not None and gap.low > 0, f"accuracy above that of each word's commonest tag: {said}")]


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=no_plot)
