"""`summary` and `lengthen` on a saved tiny model of every public family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model

Command = Callable[..., Any]
SIZES = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 34,
    "id2label": {"0": "no", "1": "yes", "2": "who knows"},
}
DISTILBERT = {"dim": 8, "n_layers": 4, "n_heads": 2, "hidden_dim": 12}
FAMILIES = {
    "bert": {},
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "camembert": {"pad_token_id": 1},
    "distilbert": DISTILBERT,
    "albert": {"embedding_size": 6},
    "electra": {"embedding_size": 8},
}


def saved(directory: Path, name: str, head: str | None) -> Path:
    torch.manual_seed(0)
    family = get_family(name)
    model = Model(family.read({**SIZES, **FAMILIES[name]}, head=head), family=name)
    return gs.save(model, directory / name)


@pytest.mark.parametrize("name", FAMILIES)
def test_summary(gossamer: Command, tmp_path: Path, name: str) -> None:
    model = saved(tmp_path, name, "sequence-classification")
    page = gossamer("summary", model, "--lengths", "16,64")
    assert (page.code, page.err) == (0, "")
    assert "sequence-classification, 3 labels: no, yes, who knows" in page.out
    assert ("4 alike, 1 weight set for 4 layers" in page.out) == (name == "albert")
    data = gossamer("summary", model, "--lengths", "16,64", "--json").json
    assert data["parameters"] == sum(one.numel() for one in gs.load(model).parameters())
    assert [one["length"] for one in data["costs"]] == [16, 64]


@pytest.mark.parametrize("head", ["sequence-classification", "question-answering", "multiple-choice"])
@pytest.mark.parametrize("name", FAMILIES)
def test_lengthen(gossamer: Command, tmp_path: Path, name: str, head: str) -> None:
    model, out = saved(tmp_path, name, head), tmp_path / "long"
    page = gossamer("lengthen", model, "--to", 128, "--window", 8, "--out", out)
    assert (page.code, page.err) == (0, "")
    assert "-> 128" in page.out
    own_activation = name in ("distilbert", "electra") and head != "question-answering"
    held = name != "albert" and not own_activation
    long = gs.load(out)
    assert long.family == ("longformer" if held else "gossamer")
    assert ("format gossamer; Longformer's cannot hold" in page.out) is not held
    assert long.architecture.head.kind == head
    if head == "sequence-classification":
        assert long.architecture.head.labels == ("no", "yes", "who knows")
    data = gossamer("lengthen", model, "--to", 128, "--window", 8, "--out", out, "--json").json
    assert data["family"] == long.family
    assert data["receipt"]["measured"]["relative_difference_at_5_tokens"] <= 1e-5
    assert gossamer("summary", out, "--json").json["length"] == 128


def test_a_long_model_is_refused(gossamer: Command, tmp_path: Path) -> None:
    model = saved(tmp_path, "albert", None)
    assert gossamer("lengthen", model, "--to", 64, "--window", 8, "--out", tmp_path / "long").code == 0
    done = gossamer("lengthen", tmp_path / "long", "--to", 128, "--out", tmp_path / "longer")
    assert done.code == 2
    assert "lengthen replaces full attention only" in done.error
    assert not (tmp_path / "longer").exists()


def test_lines_of_a_receipt_are_whole(gossamer: Command, tmp_path: Path) -> None:
    """A path that is broken into two lines cannot be copied."""
    out = tmp_path / ("long" * 20) / "model"
    done = gossamer("lengthen", saved(tmp_path, "bert", None), "--to", 64, "--window", 8, "--out", out)
    assert f"saved in {out}\n" in done.out
