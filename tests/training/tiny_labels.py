"""Rows with labels that are learnt in a second: an encoder of word pieces, texts that are easy to tell, configs."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tiny_runs import encoder_config

import gossamer as gs
from gossamer.models import Architecture, Model
from gossamer.text import train_tokenizer

THINGS = ["film", "song", "book", "soup", "day"]
NAMES = ["Ann", "Bo"]


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def texts(count: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of one to six words, all of them one thing: which is the label."""
    draw = random.Random(seed)
    kinds = [THINGS[i % 3] for i in range(count)]
    return [{"text": " ".join([kind] * draw.randint(1, 6)), "label": kind} for kind in kinds]


def sentences(count: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    """Words with the name of a person among them."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        words = [draw.choice(THINGS) for _ in range(draw.randint(1, 4))]
        place = draw.randrange(len(words) + 1)
        words[place:place] = NAMES
        tags = ["O"] * len(words)
        tags[place : place + 2] = ["B-PER", "I-PER"]
        rows.append({"tokens": words, "tags": tags})
    return rows


def save_encoder(folder: Path) -> Path:
    """An encoder without a head that reads up to 32 bytes."""
    fields = encoder_config(folder)["model"]["architecture"]
    tokenizer = train_tokenizer(THINGS + NAMES, family="bert", vocabulary_size=40, max_length=32)
    fields["embeddings"] |= {"vocabulary_size": tokenizer.vocabulary_size, "padding_id": tokenizer.pad_id}
    torch.manual_seed(0)
    model = Model(Architecture.from_dict({**fields, "head": None}))
    model.tokenizer = tokenizer
    gs.save(model, folder / "encoder")
    return folder / "encoder"


def labels_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """A classifier of `texts`; with the objective "tagging" a tagger of `sentences`."""
    kind = changes.get("objective", "classification")
    kind = kind if isinstance(kind, str) else kind["kind"]
    data = folder / f"{kind}.jsonl"
    if not data.exists():
        write_rows(data, texts() if kind == "classification" else sentences())
    if not (folder / "encoder").exists():
        save_encoder(folder)
    config: dict[str, Any] = {
        "model": {"checkpoint": str(folder / "encoder"), "new_head": True},
        "data": str(data),
        "objective": kind,
        "batch": {"rows": 8},
        "optimizer": {"learning_rate": 0.02},
        "schedule": {"warmup": 2},
        "steps": 6,
        "evaluation": {"held_out": 0.2},
        "checkpoints": {"every": 3},
        "journal": {"live": False},
        "threads": 1,
        "output": str(folder / name),
    }
    return {**config, **changes}


def classifier_config(folder: Path, name: str = "out", **changes: Any) -> dict[str, Any]:
    """Fresh weights with the head of a classifier of bytes, without dropout; some batches are of one row."""
    if not (folder / "classification.jsonl").exists():
        write_rows(folder / "classification.jsonl", texts())
    fields = encoder_config(folder)["model"]["architecture"]
    head = {"kind": "sequence-classification", "labels": ["book", "film", "song"], "dropout": 0.0}
    given = {"model": {"architecture": {**fields, "head": head}}, "objective": "classification"}
    return encoder_config(folder, name, **{**given, "data": str(folder / "classification.jsonl"), **changes})
