"""The real MiniLM: the same sentence vectors as `transformers` with mean pooling by hand."""

from pathlib import Path

import pytest
import torch
from oracle import BOUND, distance
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

import gossamer as gs

TEXTS = [
    "A thread so light that it floats.",
    "Many of them, laid far apart, still hold.",
    "",
    "naïve 東京 🙂 " * 40,
    "The state of the Union is strong. " * 80,
]


@pytest.fixture(scope="module")
def reference(minilm: Path) -> Tensor:
    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm).eval()
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state
    real = batch["attention_mask"][..., None]
    return torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=-1)


def test_sentence_vectors_are_those_of_transformers(minilm: Path, reference: Tensor) -> None:
    model = gs.load(minilm)
    with torch.no_grad():
        pooled = model(**model.tokenizer(TEXTS, max_length=256)).pooled
    assert distance(pooled, reference) <= BOUND


def test_sentence_vectors_survive_saving(minilm: Path, reference: Tensor, tmp_path: Path) -> None:
    gs.save(gs.load(minilm), tmp_path / "copy")
    for family in ("bert", "gossamer"):
        gs.save(gs.load(tmp_path / "copy"), tmp_path / "copy", family=family)
        model = gs.load(tmp_path / "copy")
        assert model.family == family
        with torch.no_grad():
            assert distance(model(**model.tokenizer(TEXTS, max_length=256)).pooled, reference) <= BOUND
