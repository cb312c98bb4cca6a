"""A dozen rows of each kind to fine-tune on, and models of drawn weights that know their words."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.models.heads import Head
from gossamer.text import train_tokenizer

TEXTS = [{"text": f"{kind} {'here ' * (i % 4)}".strip(), "label": kind} for i in range(6) for kind in ("film", "song")]
SENTENCES = [
    {"tokens": ["Ann", "sings", *["here"] * (i % 3)], "tags": ["B-PER", "O", *["O"] * (i % 3)]} for i in range(12)
]


def _question(i: int) -> dict[str, Any]:
    context = f"{'here ' * (i * 3)}Ann sings a song {'here ' * i}".strip()
    answers = {"text": ["Ann"], "answer_start": [context.index("Ann")]} if i % 4 else {"text": [], "answer_start": []}
    return {"question": "sings", "context": context, "answers": answers}


QUESTIONS = [_question(i) for i in range(12)]
"""Some of contexts of two windows of 32 tokens, some without an answer."""


PAIRS = [
    {"query": f"{kind} {'here ' * i}".strip(), "positive": f"{'here ' * i}{kind} sings"}
    for i in range(6)
    for kind in ("film", "song")
]


def save_bare(folder: Path, family: str, head: Head | None = None, **settings: Any) -> Path:
    """A model of drawn weights that reads up to 32 tokens, without a head unless one is given.

    settings: other fields of its config.json.
    """
    tokenizer = train_tokenizer(["film song Ann sings here"], family="bert", vocabulary_size=60, max_length=32)
    sizes: dict[str, Any] = {
        "bert": {
            "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16,
            "max_position_embeddings": 32,
        },
        "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 2, "n_positions": 32},
        "llama": {
            "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16,
            "max_position_embeddings": 32, "pad_token_id": tokenizer.pad_id,
        },
    }  # fmt: skip
    torch.manual_seed(0)
    config = {"vocab_size": tokenizer.vocabulary_size, **sizes[family], **settings}
    architecture = dataclasses.replace(get_family(family).read(config), head=head)
    model = Model(architecture, family=family)
    model.tokenizer = tokenizer.with_max_length(32)
    return gs.save(model, folder / family)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path
