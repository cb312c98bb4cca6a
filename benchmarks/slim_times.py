"""Latencies of what benchmarks/slim.py made, taken in turns."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from harness import Entry, interleave, spread, threads

from gossamer.models import Model


def latencies(
    models: Mapping[str, Model], *, batches: Sequence[int], counts: Sequence[int], rounds: int, length: int, seed: int
) -> list[dict[str, Any]]:
    """A record a model, batch and number of threads (`counts`): seconds for so many texts of `length` tokens."""
    records = []
    for count in counts:
        for batch in batches:
            ids = _ids(models, batch, length, seed)
            entries = [Entry(name, _reading(model, ids)) for name, model in models.items()]
            with threads(count):
                samples = interleave(entries, rounds=rounds, patience=float("inf"), rng=random.Random(seed))
            for name, seconds in samples.items():
                told = spread(list(seconds.values()))
                records.append({
                    "name": name, "threads": count, "batch": batch, "median": told.median,
                    "lower_quartile": told.lower_quartile, "upper_quartile": told.upper_quartile,
                    "rounds": [seconds[number] for number in sorted(seconds)],
                })  # fmt: skip
    return records


def _ids(models: Mapping[str, Model], batch: int, length: int, seed: int) -> torch.Tensor:
    """The same ids for all, which every vocabulary has."""
    least = min(model.architecture.embeddings.vocabulary_size for model in models.values())
    return torch.randint(least // 2, least, (batch, length), generator=torch.Generator().manual_seed(seed))


def _reading(model: Model, ids: torch.Tensor) -> Any:
    @torch.no_grad()
    def read() -> None:
        model(ids)

    return read


def times_as_fast(times: Sequence[Mapping[str, Any]], name: str, other: str) -> float:
    """How many times as fast one model is as another at the same setting: the median over rounds, of pairs of turns."""
    (first,), (second,) = ([one for one in times if one["name"] == wanted] for wanted in (name, other))
    return statistics.median(slow / fast for slow, fast in zip(second["rounds"], first["rounds"], strict=True))
