"""Pairs of texts that are learnt in a second, and configs of encoders of them."""

import random
from pathlib import Path
from typing import Any

from tiny_labels import NAMES, THINGS, save_encoder, write_rows
from tiny_runs import encoder_config

import gossamer as gs
from gossamer.models import DenseLayer, SentenceEmbedding


def pairs(count: int = 60, negatives: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """Two words, and the same two in another order; negatives are of other words."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        first, second, *others = draw.sample([*THINGS, *NAMES], 4)
        row: dict[str, Any] = {"query": f"{first} {second}", "positive": f"{second} {first} {first}"}
        for i in range(negatives):
            row[f"negative_{i + 1}"] = " ".join(draw.choices(others, k=1 + i))
        rows.append(row)
    return rows


def scored(count: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs of sentences, as alike as the share of their words that is one."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        words, same = draw.choices(THINGS, k=4), draw.randrange(5)
        other = words[:same] + draw.choices(NAMES, k=4 - same)
        rows.append({"sentence1": " ".join(words), "sentence2": " ".join(other), "score": same / 4})
    return rows


def save_dense_encoder(folder: Path) -> Path:
    """An encoder of word pieces whose vectors go through two maps, to 6 numbers."""
    head = SentenceEmbedding(dense=(DenseLayer(size=12), DenseLayer(size=6, bias=False, activation="identity")))
    return gs.save(gs.load(save_encoder(folder), head=head), folder / "dense")


def pairs_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """Pairs for an encoder of word pieces whose head is taken anew."""
    if not (folder / "encoder").exists():
        save_encoder(folder)
    config: dict[str, Any] = {
        "model": {"checkpoint": str(folder / "encoder"), "new_head": True},
        "objective": "sentence-pairs",
        "batch": {"rows": 8},
        "optimizer": {"learning_rate": 0.02},
        "steps": 6,
        "evaluation": {"held_out": 0.2},
        "checkpoints": {"every": 3},
        "journal": {"live": False},
        "threads": 1,
        "output": str(folder / name),
    }
    return {**config, **changes}


def byte_pairs_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """Fresh weights that read bytes, without dropout, with a map of their vectors."""
    if not (folder / "pairs.jsonl").exists():
        write_rows(folder / "pairs.jsonl", pairs(negatives=1))
    fields = encoder_config(folder)["model"]["architecture"]
    head = {"kind": "embed", "dense": [{"size": 6}]}
    given = {"model": {"architecture": {**fields, "head": head}}, "objective": "sentence-pairs"}
    return encoder_config(folder, name, **{**given, "data": str(folder / "pairs.jsonl"), **changes})
