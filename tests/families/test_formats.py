"""What a format can hold is decided by writing and reading back."""

import dataclasses
from typing import Any

import pytest

import gossamer as gs
from gossamer.families import FAMILIES, NATIVE, family_for, get_family
from gossamer.models import Architecture, SentenceEmbedding

LONGFORMER = get_family("longformer").read(
    {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "attention_window": [4, 6]}
)
BERT = get_family("bert").read({"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2})


def with_layer(architecture: Architecture, i: int, **attention: Any) -> Architecture:
    layers = list(architecture.layers)
    layers[i] = dataclasses.replace(layers[i], attention=dataclasses.replace(layers[i].attention, **attention))
    return dataclasses.replace(architecture, layers=tuple(layers))


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (BERT, "bert"),
        (LONGFORMER, "longformer"),
        (dataclasses.replace(BERT, head=SentenceEmbedding(pooling="max")), "bert"),
        (with_layer(BERT, 0, pattern=gs.Window(2, 2)), "gossamer"),
        (with_layer(BERT, 1, heads=1), "gossamer"),
        (with_layer(BERT, 1, weights=0), "gossamer"),
        (with_layer(LONGFORMER, 0, pattern=gs.Window(3, 3) | gs.Global()), "longformer"),
        (with_layer(LONGFORMER, 0, pattern=gs.Window(3, 2) | gs.Global()), "gossamer"),
        (with_layer(LONGFORMER, 0, pattern=gs.Window(3, 3, dilation=2) | gs.Global()), "gossamer"),
        (with_layer(LONGFORMER, 0, pattern=gs.Window(3, 3)), "gossamer"),
        (with_layer(LONGFORMER, 0, global_projections=False), "gossamer"),
    ],
)
def test_the_format_that_holds_it_is_found(architecture: Architecture, expected: str) -> None:
    for preferred in ("gossamer", "bert", "longformer"):
        holds = FAMILIES[preferred].expresses(architecture)
        assert family_for(architecture, preferred).model_type == (preferred if holds else expected)
    assert NATIVE.expresses(architecture)
    public = [form.model_type for form in FAMILIES.values() if form.public and form.expresses(architecture)]
    assert public == ([expected] if expected != "gossamer" else [])


def test_obstacles_name_the_fields() -> None:
    (only,) = get_family("bert").obstacles(with_layer(BERT, 1, pattern=gs.Window(2, 2)))
    assert only.startswith("layers.1.attention.pattern: ")
    listed = " ".join(get_family("bert").obstacles(LONGFORMER))
    for name in ("global_projections", "pattern", "from_padding", "offset"):
        assert name in listed


@pytest.mark.parametrize("architecture", [BERT, LONGFORMER], ids=["bert", "longformer"])
def test_architecture_survives_its_own_dictionary(architecture: Architecture) -> None:
    assert Architecture.from_dict(architecture.to_dict()) == architecture


def test_pad_token_may_be_absent_in_bert_only() -> None:
    absent = get_family("bert").read({"pad_token_id": None})
    assert absent.embeddings.padding_id is None
    assert get_family("bert").expresses(absent)
    with pytest.raises(gs.InputError, match="pad_token_id is None"):
        get_family("longformer").read({"pad_token_id": None})
