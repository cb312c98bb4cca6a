"""The demo's measurements: outputs on short text, time and memory by length, retrieval, and the year of a speech."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

from gossamer.cli.demo.material import Material, Tokens
from gossamer.cli.demo.variants import attending, measured, with_pattern
from gossamer.metrics import (
    estimate_mean,
    mean_reciprocal_rank,
    recall_at,
    retrieval_ranks,
    ridge_cross_validated,
)
from gossamer.models.model import Model
from gossamer.patterns import Full
from gossamer.recipes import lengthen
from gossamer.tasks import Embed
from gossamer.tasks.passes import Progress
from gossamer.tasks.passes import Reading as TextReading

__all__ = [
    "SIZES",
    "Reading",
    "contents",
    "read_chunks",
    "read_passages",
    "read_whole",
    "retrieval",
    "scaling",
    "unchanged",
    "years",
]

Rows = list[tuple[int, Tensor, tuple[int, int]]]
"""What `Embed.pooled` gives: text, vector, characters."""

SIZES = (128, 256, 512)
"""Sizes of chunks and spans in tokens, up to the short model's positions: [CLS] and [SEP] take two of MiniLM's 512."""

ALLOWED, ALLOWED_IN_HALF = 1e-5, 1e-2
REPEATS = {4096: 3, 8192: 2}
"""Up to so many tokens, so many timings; beyond, one."""


@dataclass
class Reading:
    """Vectors read so far: `rows[name]` are the vectors [rows, size] and `owners[name]` the speech of each."""

    material: Material
    rows: dict[str, Tensor] = field(default_factory=dict)
    owners: dict[str, list[int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, found: Rows) -> None:
        self.rows[name] = torch.stack([vector for _, vector, _ in found])
        self.owners[name] = [owner for owner, _, _ in found]

    def describe(self) -> dict[str, Any]:
        """Tokens, seconds and tokens a second of each way of reading."""
        return {
            name: {"tokens": tokens, "seconds": self.seconds[name], "tokens_per_second": tokens / self.seconds[name]}
            for name, tokens in self.tokens.items()
        }


Step = Callable[[Reading, Progress], None]


def _texts(tokens: Sequence[Tokens], owners: Sequence[int] | None = None) -> list[TextReading]:
    numbers = range(len(tokens)) if owners is None else owners
    return [TextReading(text=i, ids=ids, offsets=offsets) for i, (ids, offsets) in zip(numbers, tokens, strict=True)]


def _timed(reading: Reading, name: str, embedder: Embed, texts: list[TextReading], sizes: Sequence[int | None],
           report: Progress) -> list[Rows]:  # fmt: skip
    start = time.perf_counter()
    rows = embedder.pooled(texts, sizes, progress=report)
    reading.seconds[name] = time.perf_counter() - start
    reading.tokens[name] = sum(len(one.ids) for one in texts)
    return rows


def read_passages(short: Model, material: Material) -> Step:
    """The passages, embedded by the original model: the questions."""

    def step(reading: Reading, report: Progress) -> None:
        texts = _texts(material.passage_tokens)
        reading.add("passages", _timed(reading, "passages, short model", Embed(short), texts, [None], report)[0])

    return step


def read_whole(short: Model, long: Model, material: Material) -> Step:
    """The speeches, whole, by the lengthened model: spans of every size and one vector each, from the same states."""

    def step(reading: Reading, report: Progress) -> None:
        sizes = list(contents(short).values())
        found = _timed(reading, "whole, long model", Embed(long), _texts(material.tokens), [*sizes, None], report)
        for name, rows in zip([*(f"span {size}" for size in SIZES), "span whole"], found, strict=True):
            reading.add(name, rows)

    return step


def read_chunks(short: Model, material: Material) -> Step:
    """The speeches in chunks by the original model; the first chunk of 512 is the speech truncated."""

    def step(reading: Reading, report: Progress) -> None:
        total, before = len(SIZES) * sum(len(ids) for ids, _ in material.tokens), 0
        firsts: Rows = []
        means: Rows = []
        for size, content in contents(short).items():
            texts = _chunks(material.tokens, content)
            name = f"chunks of {size}, short model"
            shifted = _after(report, before, total)
            reading.add(f"chunk {size}", _timed(reading, name, Embed(short), texts, [None], shifted)[0])
            before += reading.tokens[name]
        rows, owners = reading.rows["chunk 512"], torch.tensor(reading.owners["chunk 512"])
        # The last chunks of `texts` are those of 512: like the mean over a whole text, every token counts the same.
        weighted = rows * torch.tensor([float(len(one.ids)) for one in texts])[:, None]
        for i in range(len(material.speeches)):
            firsts.append((i, rows[owners == i][0], (0, 0)))
            means.append((i, torch.nn.functional.normalize(weighted[owners == i].sum(0), dim=0), (0, 0)))
        reading.add("truncated", firsts)
        reading.add("chunk whole", means)

    return step


def _after(report: Progress, before: int, total: int) -> Progress:
    return lambda done, _: report(before + done, total)


def contents(short: Model) -> dict[int, int]:
    """Tokens of the text in a chunk, and in a span, of each size."""
    capacity = Embed(short).capacity
    return {size: min(size, capacity) for size in SIZES}


def _chunks(tokens: Sequence[Tokens], size: int) -> list[TextReading]:
    cut = [
        (owner, (ids[start : start + size], offsets[start : start + size]))
        for owner, (ids, offsets) in enumerate(tokens)
        for start in range(0, len(ids), size)
    ]
    return _texts([one for _, one in cut], [owner for owner, _ in cut])


def unchanged(short: Model, long: Model, material: Material, window: int) -> dict[str, Any]:
    """Embeddings of the passages that a window covers, by both models: the relative difference of all of them.

    Twice: as it runs, by the backends told; and by `blocked`, whose tiles nothing in the short model shares.
    """
    fits = [one for one in material.passage_tokens if len(one[0]) + 2 <= window // 2 + 1]
    exact = next(long.parameters()).dtype in (torch.float32, torch.float64)
    found: dict[str, Any] = {"texts": len(fits), "allowed": ALLOWED if exact else ALLOWED_IN_HALF}
    if not fits:
        return found | {"relative_difference": None, "relative_difference_windowed_kernel": None, "backends": []}
    before = _vectors(short, fits)
    with attending() as backends:
        after = _vectors(long, fits)
    with attending("blocked"):
        windowed = _vectors(long, fits)
    return found | {
        "longest_tokens": max(len(ids) for ids, _ in fits) + 2,
        "backends": sorted(backends),
        "relative_difference": float((after - before).norm() / before.norm()),
        "relative_difference_windowed_kernel": float((windowed - before).norm() / before.norm()),
    }


def _vectors(model: Model, tokens: Sequence[Tokens]) -> Tensor:
    return torch.stack([vector for _, vector, _ in Embed(model).pooled(_texts(tokens), [None])[0]]).double()


@torch.inference_mode()
def scaling(short: Model, lengths: Sequence[int], window: int, report: Progress) -> list[dict[str, Any]]:
    """Time and peak memory of one text of each length, by the same weights with dense and with windowed attention."""
    windowed, _ = lengthen(short, to=max(*lengths, short.architecture.length), window=window)
    models = {"dense": with_pattern(windowed, Full()), "windowed": windowed}
    words = short.architecture.embeddings.vocabulary_size
    ids = torch.randint(1, words, (1, max(lengths)), generator=torch.Generator().manual_seed(0))
    for model in models.values():
        model(ids[:, : lengths[0]])
    rows, done, total = [], 0, sum(lengths)
    for length in lengths:
        repeats = next((count for most, count in REPEATS.items() if length <= most), 1)
        calls = {name: partial(model, ids[:, :length]) for name, model in models.items()}
        # Turn by turn, each first in every other round, so that neither always finds the caches warm.
        rounds = [{name: measured(calls[name]) for name in sorted(calls, reverse=bool(i % 2))} for i in range(repeats)]
        row: dict[str, Any] = {"tokens": length, "repeats": repeats}
        for name in models:
            row[f"{name}_seconds"] = median(one[name][0] for one in rounds)
            row[f"{name}_peak_bytes"] = max(one[name][1] for one in rounds)
        rows.append(row)
        done += length
        report(done, total)
    return rows


def retrieval(reading: Reading, material: Material) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """How well passages find their speech among the vectors of each way of reading, and by how much spans beat chunks.

    A speech's best vector counts. Differences are taken passage by passage; standard errors respect that passages of
    one speech are alike.
    """
    ways = ["truncated", *(f"{kind} {size}" for size in (*SIZES, "whole") for kind in ("chunk", "span"))]
    targets = torch.tensor(material.passage_of)
    results = []
    ranks_by: dict[str, Tensor] = {}
    for way in ways:
        owners = torch.tensor(reading.owners[way])
        ranks = ranks_by[way] = retrieval_ranks(reading.rows["passages"], reading.rows[way], owners, targets)
        results.append(
            {
                "way": way,
                "vectors": len(owners),
                "recall_at_1": asdict(recall_at(ranks, 1, groups=targets)),
                "recall_at_10": asdict(recall_at(ranks, 10, groups=targets)),
                "mrr": asdict(mean_reciprocal_rank(ranks, groups=targets)),
            }
        )
    pairs = [(str(size), ranks_by[f"span {size}"], ranks_by[f"chunk {size}"]) for size in (*SIZES, "whole")]
    return results, [{"size": size, **_difference(span, chunk, targets)} for size, span, chunk in pairs]


def _difference(ranks: Tensor, others: Tensor, targets: Tensor) -> dict[str, Any]:
    scores = {
        "recall_at_1": lambda x: (x <= 1).double(),
        "recall_at_10": lambda x: (x <= 10).double(),
        "mrr": lambda x: 1 / x.double(),
    }
    return {name: asdict(estimate_mean(score(ranks) - score(others), targets)) for name, score in scores.items()}


def years(reading: Reading, material: Material, seed: int) -> list[dict[str, Any]]:
    """The year of a speech by ridge regression on its one vector, speakers held out."""
    target = torch.tensor([float(one.year) for one in material.speeches])
    speakers = [one.speaker for one in material.speeches]
    folds = min(5, len(set(speakers)))
    if folds < 3:
        return []
    results = []
    for way in ("truncated", "chunk whole", "span whole"):
        found = ridge_cross_validated(reading.rows[way], target, speakers, folds=folds, seed=seed)
        results.append(
            {
                "way": way,
                "mean_absolute_error": asdict(found.mean_absolute_error),
                "chance": asdict(found.chance_mean_absolute_error),
                "r2": found.r2,
                "spearman": found.spearman,
            }
        )
    return results
