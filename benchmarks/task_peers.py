"""What benchmarks/tasks.py compares: tasks of Gossamer and what others have for them, on the same model and texts."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gate import ParityError
from sentence_transformers import CrossEncoder, SentenceTransformer, util
from transformers import pipeline

import gossamer as gs
from gossamer.models import Head, MaskedLM, SequenceClassification, TokenClassification
from gossamer.text import speeches

MINILM = "sample:minilm"
LABELS = ["war", "trade", "the weather"]
QUERY = "the price of wheat and cotton"
SCORES = 2e-4
"""How far two scores of one text may lie apart: both compute in float32, in batches of different shapes."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both sides of a task: what they do, and what is the same of their results.

    theirs: by the batch size that they take, since they take one; the best counts.
    """

    peer: str
    ours: Callable[[], Any]
    theirs: dict[int, Callable[[], Any]]
    same: Callable[[Any, Any], bool]


def mixed_texts(count: int, seed: int, longest: int = 400) -> list[str]:
    """Stretches of speeches of 5 to so many words, their lengths drawn evenly on a logarithmic scale."""
    drawn = random.Random(seed)
    words = [speech.text.split() for speech in speeches()]
    texts = []
    for _ in range(count):
        length = round(5 * (longest / 5) ** drawn.random())
        source = drawn.choice([one for one in words if len(one) > longest])
        start = drawn.randrange(len(source) - length)
        texts.append(" ".join(source[start : start + length]))
    return texts


def saved(folder: Path, name: str, head: Head, seed: int) -> Path:
    """MiniLM with a head of drawn weights, larger than fresh ones so that answers differ, as a checkpoint."""
    torch.manual_seed(seed)
    model = gs.load(MINILM, head=head)
    with torch.no_grad():
        for weight in model.head.parameters():
            weight.mul_(20)
    return gs.save(model, folder / name)


def pairs_of(task: str, folder: Path, count: int, sizes: Sequence[int], seed: int) -> Pair:
    """The two sides of a task on so many texts."""
    texts = mixed_texts(count, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _PAIRS[task](folder, texts, sizes, seed)


def _pipeline(name: str, directory: Path) -> Any:
    return pipeline(name, model=str(directory), device="cpu")


def _classify(folder: Path, texts: list[str], sizes: Sequence[int], seed: int) -> Pair:
    directory = saved(folder, "classify", SequenceClassification(labels=tuple("abcdef")), seed)
    ours, theirs = gs.task("classify", gs.load(directory)), _pipeline("text-classification", directory)
    return Pair(
        peer="transformers pipeline",
        ours=lambda: ours(texts),
        theirs={size: lambda size=size: theirs(texts, top_k=None, batch_size=size, truncation=True) for size in sizes},
        same=lambda mine, other: all(
            _alike({one.label: one.score for one in a}, {one["label"]: one["score"] for one in b})
            for a, b in zip(mine.labels, other, strict=True)
        ),
    )


def _tag(folder: Path, texts: list[str], sizes: Sequence[int], seed: int) -> Pair:
    labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    directory = saved(folder, "tag", TokenClassification(labels=labels), seed)
    ours, theirs = gs.task("tag", gs.load(directory)), _pipeline("token-classification", directory)
    kept = lambda one: (one["entity_group"], one["start"], one["end"])  # noqa: E731
    return Pair(
        peer="transformers pipeline",
        ours=lambda: ours(texts),
        theirs={
            size: lambda size=size: theirs(texts, aggregation_strategy="simple", batch_size=size) for size in sizes
        },
        same=lambda mine, other: _mostly(
            [[(one.label, one.start, one.end) for one in a] for a in mine.entities],
            [[kept(one) for one in b] for b in other],
        ),
    )


def _fill(folder: Path, texts: list[str], sizes: Sequence[int], seed: int) -> Pair:
    directory = saved(folder, "fill", MaskedLM(), seed)
    ours, theirs = gs.task("fill-mask", gs.load(directory)), _pipeline("fill-mask", directory)
    masked = [" ".join([*words[:-3], "[MASK]", *words[-3:]]) for words in (text.split() for text in texts)]
    return Pair(
        peer="transformers pipeline",
        ours=lambda: ours(masked),
        theirs={size: lambda size=size: theirs(masked, batch_size=size) for size in sizes},
        same=lambda mine, other: _mostly(
            [[one.token for one in a[0].fills] for a in mine.masks], [[one["token"] for one in b] for b in other]
        ),
    )


def _zero_shot(folder: Path, texts: list[str], sizes: Sequence[int], seed: int) -> Pair:
    labels = ("contradiction", "neutral", "entailment")
    directory = saved(folder, "entailment", SequenceClassification(labels=labels), seed)
    ours, theirs = gs.task("zero-shot", gs.load(directory)), _pipeline("zero-shot-classification", directory)
    return Pair(
        peer="transformers pipeline",
        ours=lambda: ours(texts, LABELS),
        theirs={size: lambda size=size: theirs(texts, LABELS, batch_size=size) for size in sizes},
        same=lambda mine, other: all(
            _alike({one.label: one.score for one in a}, dict(zip(b["labels"], b["scores"], strict=True)))
            for a, b in zip(mine.labels, other, strict=True)
        ),
    )


def _embed(folder: Path, texts: list[str], sizes: Sequence[int], seed: int) -> Pair:
    directory = gs.save(gs.load(MINILM), folder / "embed")
    ours, theirs = gs.task("embed", gs.load(directory)), SentenceTransformer(str(directory), device="cpu")
    ours.max_seq_length = theirs.max_seq_length = 512
    return Pair(
        peer="sentence-transformers",
        ours=lambda: ours(texts).vectors.numpy(),
        theirs={size: lambda size=size: theirs.encode(texts, batch_size=size) for size in sizes},
        same=lambda mine, other: float(abs(mine - other).max()) <= SCORES,
    )


def _rank(folder: Path, texts: list[str], sizes: Sequence[int], seed: int) -> Pair:
    directory = saved(folder, "rank", SequenceClassification(labels=("fits",)), seed)
    ours, theirs = gs.task("rank", gs.load(directory)), CrossEncoder(str(directory), device="cpu", max_length=512)
    return Pair(
        peer="sentence-transformers",
        ours=lambda: ours(QUERY, texts),
        theirs={
            size: lambda size=size: theirs.rank(QUERY, texts, batch_size=size, show_progress_bar=False)
            for size in sizes
        },
        same=lambda mine, other: _alike(
            {one.index: one.score for one in mine.texts[0]}, {one["corpus_id"]: float(one["score"]) for one in other}
        ),
    )


def _similar(folder: Path, texts: list[str], sizes: Sequence[int], seed: int) -> Pair:
    directory = gs.save(gs.load(MINILM), folder / "similar")
    ours, theirs = gs.task("similar", gs.load(directory)), SentenceTransformer(str(directory), device="cpu")
    ours.embed.max_seq_length = theirs.max_seq_length = 512

    def search(size: int) -> Any:
        return util.semantic_search(theirs.encode([QUERY]), theirs.encode(texts, batch_size=size), top_k=10)

    return Pair(
        peer="sentence-transformers",
        ours=lambda: ours(QUERY, texts),
        theirs={size: lambda size=size: search(size) for size in sizes},
        same=lambda mine, other: _alike(
            {one.index: one.score for one in mine.neighbours[0]}, {one["corpus_id"]: one["score"] for one in other[0]}
        ),
    )


_PAIRS: dict[str, Callable[[Path, list[str], Sequence[int], int], Pair]] = {
    "classify": _classify,
    "tag": _tag,
    "fill-mask": _fill,
    "zero-shot": _zero_shot,
    "embed": _embed,
    "rank": _rank,
    "similar": _similar,
}
TASKS = tuple(_PAIRS)


def check(task: str, pair: Pair, mine: Any, other: Any) -> None:
    """Refuse to time what does not give the same."""
    if not pair.same(mine, other):
        raise ParityError(f"{task}: what {pair.peer} gives for the same texts is something else")


def _alike(mine: dict[Any, float], other: dict[Any, float]) -> bool:
    return mine.keys() == other.keys() and all(abs(mine[key] - other[key]) <= SCORES for key in mine)


def _mostly(mine: Sequence[Sequence[Any]], other: Sequence[Sequence[Any]]) -> bool:
    """Whether the same but for a few of a thousand, whose scores tie but for rounding."""
    pairs = [pair for a, b in zip(mine, other, strict=True) for pair in zip(a, b, strict=False)]
    lengths = sum(abs(len(a) - len(b)) for a, b in zip(mine, other, strict=True))
    return lengths + sum(a != b for a, b in pairs) <= len(pairs) // 200
