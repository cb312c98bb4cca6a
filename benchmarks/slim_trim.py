"""Part `trim` of benchmarks/slim.py: MiniLM's vocabulary cut to the speeches, read to speakers whom nobody counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import progress
from slim_part import Part, named, names_of, text_table, verdict
from slim_plots import trim_plot
from slim_speeches import FIRST, by_speakers, ranks_in, recalls, sentence_queries, vectors_of

import gossamer as gs
from gossamer.models import Model

ORIGINAL = "original"
WAYS: dict[str, dict[str, Any]] = {
    "seen once": {},
    "seen once, seen characters": {"characters": "seen"},
    "8,000 tokens": {"size": 8000},
    "4,000 tokens": {"size": 4000},
    "2,000 tokens": {"size": 2000, "characters": "seen"},
}
"""What `gs.trim` is told."""
MOST_DIFFERENCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tokens are counted in the speeches of all but `speakers` (of `speeches` of them, None: all); of these, passages
    of `words` words are searched, `test` of them (None: all).
    """

    purpose: str
    test: int | None
    speeches: int | None = None
    speakers: int = 9
    words: int = 100


PLANS = {
    "cpu": Plan(purpose="measurement", test=None),
    "gpu": Plan(purpose="measurement", test=None),
    "smoke": Plan(purpose="smoke test: its numbers mean nothing", test=8, speeches=2),
}


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model: its sizes, what its receipt measured, and how queries find their passages by its vectors."""
    counted, held_out = by_speakers(plan.speakers)
    texts = [one.text for one in counted[: plan.speeches]]
    others = [one.text for one in held_out[: plan.speeches]]
    data = sentence_queries(held_out, plan.words, plan.test)
    model = gs.load("sample:minilm", dtype="float32")
    progress(f"the original's index: {len(data.documents):,} passages")
    length = model.reading_length()
    index, asked = (vectors_of(model, some, length) for some in (data.documents, data.queries))
    yield {"name": ORIGINAL, "seed": seed, **_sizes(model, work), "ranks": ranks_in(index, asked)}
    for name, options in WAYS.items():
        progress(f"{name}: {len(texts)} speeches to count")
        few, receipt = gs.trim(model, texts, evaluate=others, **options)
        queries = vectors_of(few, data.queries, length)
        cosine = torch.nn.functional.cosine_similarity(queries, asked).mean()
        yield {
            "name": name, "seed": seed, **_sizes(few, work), **receipt.measured,
            "cosine": float(cosine), "ranks": ranks_in(index, queries),
        }  # fmt: skip


def _sizes(model: Model, work: Path) -> dict[str, int]:
    folder = gs.save(model, work / "model")
    return {
        "vocabulary": model.architecture.embeddings.vocabulary_size,
        "parameters": sum(one.numel() for one in model.parameters()),
        "bytes": (folder / "model.safetensors").stat().st_size,
    }


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether what is promised of kept tokens was measured of each model, and what the sizes are."""
    before = named(results, ORIGINAL)[0]
    told = []
    for name in names_of(results):
        row = named(results, name)[0]
        if name != ORIGINAL:
            kept = row["same_rows"] == 1 and row.get("same_tokens", 1) == 1
            told.append(verdict(kept, f"{name}: the same tokens, and their rows to the bit"))
            apart = row["largest_difference_of_outputs"]
            told.append(verdict(apart <= MOST_DIFFERENCE, f"{name}: outputs at most 1e-6 apart: {apart:.1e}"))
            shares = [1 - row[what] / before[what] for what in ("bytes", "parameters")]
            told.append(f"{name}: {shares[0]:.1%} fewer bytes, {shares[1]:.1%} fewer parameters")
    return told


def tables(results: dict[str, Any]) -> list[str]:
    """Two lines a model: what it is, and what becomes of speakers whom nobody counted."""
    found = [recalls(results, first) for first in FIRST]
    sizes, others = [], []
    for name in names_of(results):
        row = named(results, name)[0]
        sizes.append([name, f"{row['vocabulary']:,}", f"{row['parameters']:,}", f"{row['bytes']:,}"])
        searched = [f"{recall[name]:.4f}" for recall in found]
        if name == ORIGINAL:
            others.append([name, "", "", "", "", *searched])
            continue
        longer = row["evaluate_tokens_after"] / row["evaluate_tokens_before"] - 1
        others.append([
            name, f"{row['tokens_kept']:.4f}", f"{row['evaluate_tokens_kept']:.4f}", f"{longer:+.2%}",
            f"{row['cosine']:.4f}", *searched,
        ])  # fmt: skip
    columns = ["tokens kept, counted speakers", "others", "tokens of others", "cosine to the original"]
    return [
        *text_table(["MiniLM", "tokens", "parameters", "bytes"], sizes),
        *text_table(["MiniLM", *columns, *(f"recall@{first}" for first in FIRST)], others),
    ]


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=trim_plot)
