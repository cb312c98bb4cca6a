"""Part `pairs` of benchmarks/slim.py: spoiled vectors of texts learn from neighbouring passages."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from harness import progress
from slim_part import Part, held_out_curve, named, text_table, verdict
from slim_plots import pairs_plot
from slim_speeches import FIRST, Retrieval, by_speakers, hits, neighbours, ranks_in, recalls, vectors_of

import gossamer as gs
from gossamer.metrics import paired_difference
from gossamer.models import Architecture, Model
from gossamer.models.initial import initialise
from gossamer.training.journal.journal import FILE, read_journal
from gossamer.training.loop import train

ORIGINAL, SPOILED, TRAINED = "original", "spoiled", "trained"
SAME_LOSS = 1e-5
REDRAWN = 2
"""So many layers, the last ones, lose their weights."""
CACHED_STEPS, CACHED_PARTS = 3, 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`steps` of `rows` pairs, read in `parts`, learn; `test` pairs of held-out `speakers` are judged (None: all)."""

    purpose: str
    steps: int
    rows: int
    seeds: int
    test: int | None
    train: int | None = None
    parts: int = 1
    length: int = 128
    speakers: int = 9
    words: int = 60
    learning_rate: float = 1e-4


PLANS = {
    "cpu": Plan(purpose="measurement", steps=400, rows=32, seeds=1, test=1000),
    "gpu": Plan(purpose="measurement", steps=2000, rows=1024, parts=8, seeds=3, test=None),
    "smoke": Plan(purpose="smoke test: its numbers mean nothing", steps=2, rows=4, seeds=1, test=16, train=32),
}


def rows(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model and seed, the rank of each passage's neighbour; and the losses with gradient caching or not."""
    learnt, judged = by_speakers(plan.speakers)
    pairs, data = (neighbours(some, plan.words, most) for some, most in ((learnt, plan.train), (judged, plan.test)))
    original = gs.load("sample:minilm", dtype="float32")
    yield {"name": ORIGINAL, "seed": seed, **_judged(original, data, plan)}
    for number in range(seed, seed + plan.seeds):
        model = spoiled(original, number)
        yield {"name": SPOILED, "seed": number, **_judged(model, data, plan)}
        if number == seed:
            yield _cached(plan, model, pairs, work, number)
        progress(f"trained, seed {number}, {len(pairs.queries):,} pairs")
        folder = work / f"trained-{number}"
        settings = _settings(plan, number) | {"output": str(folder)}
        settings["evaluation"] = {"every": max(plan.steps // 5, 1)}
        model, _ = train(settings, model=model, rows=_pairs_of(pairs), evaluation_rows=_pairs_of(data))
        curves = {f"curve_{first}": held_out_curve(folder, f"recall_at_{first}") for first in FIRST}
        yield {"name": TRAINED, "seed": number, **_judged(model, data, plan), **curves}


def spoiled(model: Model, seed: int) -> Model:
    """A copy whose last layers are drawn anew."""
    new = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in new.architecture.layers[-REDRAWN:]:
            initialise(new.attention[layer.attention.weights], new.architecture.initializer_range)
            initialise(new.feed_forward[layer.feed_forward.weights], new.architecture.initializer_range)
    return new


def _cached(plan: Plan, model: Model, pairs: Retrieval, work: Path, seed: int) -> dict[str, Any]:
    """The losses of a few steps that read all rows at once, and of as many that read them in parts.

    Without dropout, which would be drawn for other tensors.
    """
    losses = {}
    for name, parts in (("at once", 1), ("in parts", CACHED_PARTS)):
        progress(f"gradient caching: {name}")
        folder = work / f"caching-{name.replace(' ', '-')}"
        settings = _settings(replace(plan, steps=CACHED_STEPS, parts=parts), seed) | {"output": str(folder)}
        train(settings, model=_without_dropout(model), rows=_pairs_of(pairs))
        losses[name] = [line["loss"] for line in read_journal(folder / FILE) if line["split"] == "train"]
    return {"name": "gradient caching", "seed": seed, "losses": losses}


def _without_dropout(model: Model) -> Model:
    old = model.architecture
    layers = tuple(
        replace(
            one,
            attention=replace(one.attention, dropout=0.0, residual_dropout=0.0),
            feed_forward=replace(one.feed_forward, dropout=0.0, residual_dropout=0.0),
        )
        for one in old.layers
    )
    architecture: Architecture = replace(old, layers=layers, embeddings=replace(old.embeddings, dropout=0.0))
    new = Model(architecture, tokenizer=model.tokenizer)
    new.load_state_dict(model.state_dict())
    new.family = model.family
    return new


def _pairs_of(data: Retrieval) -> list[dict[str, str]]:
    return [{"anchor": a, "positive": b} for a, b in zip(data.queries, data.documents, strict=True)]


def _judged(model: Model, data: Retrieval, plan: Plan) -> dict[str, Any]:
    queries, documents = (vectors_of(model, texts, plan.length) for texts in (data.queries, data.documents))
    return {"ranks": ranks_in(documents, queries), "speeches": data.speeches}


def _settings(plan: Plan, seed: int) -> dict[str, Any]:
    return {
        "objective": {"kind": "sentence-pairs"},
        "batch": {"rows": plan.rows, "accumulation": plan.parts, "length": plan.length},
        "optimizer": {"learning_rate": plan.learning_rate, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": 0.1},
        "steps": plan.steps,
        "checkpoints": {"every": 100, "keep": 1},
        "journal": {"live": False},
        "seed": seed,
    }


def verdicts(results: dict[str, Any]) -> list[str]:
    """How much of the lost recall is back, and whether caching changes the loss."""
    told = []
    if named(results, TRAINED):
        original, trained = named(results, ORIGINAL), named(results, TRAINED)
        for first in FIRST:
            found = recalls(results, first)
            lost, back = found[ORIGINAL] - found[SPOILED], found[TRAINED] - found[SPOILED]
            gap = paired_difference(hits(trained, first), hits(original, first), original[0]["speeches"])
            share = f"{back / lost:.1%} of what was lost" if lost > 0 else "nothing was lost"
            told.append(f"recall@{first} regained: {share}; less the original's: {gap}")
    for row in named(results, "gradient caching"):
        most = max(abs(a - b) for a, b in zip(row["losses"]["at once"], row["losses"]["in parts"], strict=True))
        claim = (
            f"with and without gradient caching the same loss to {SAME_LOSS:.0e}: {most:.1e} over {CACHED_STEPS} steps"
        )
        told.append(verdict(most <= SAME_LOSS, claim))
    return told


def tables(results: dict[str, Any]) -> list[str]:
    """A line a model; the curve over steps; the losses with gradient caching or not."""
    found = [recalls(results, first) for first in FIRST]
    models = [[name, *(f"{recall[name]:.4f}" for recall in found)] for name in found[0]]
    told = text_table(["neighbouring passages", *(f"recall@{first}" for first in FIRST)], models)
    for row in named(results, TRAINED):
        both = zip(*(row[f"curve_{first}"] for first in FIRST), strict=True)
        curve = [[str(each[0][0]), *(f"{value:.4f}" for _, value in each)] for each in both]
        told += text_table([f"steps, seed {row['seed']}", *(f"recall@{first}" for first in FIRST)], curve)
    for row in named(results, "gradient caching"):
        losses = [[name, *(f"{loss:.7f}" for loss in each)] for name, each in row["losses"].items()]
        told += text_table(["loss, rows read", *(f"step {i + 1}" for i in range(CACHED_STEPS))], losses)
    return told


PART = Part(plans=PLANS, rows=rows, tables=tables, verdicts=verdicts, plot=pairs_plot)
