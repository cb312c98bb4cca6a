"""What a format can hold is decided by writing and reading back."""

import dataclasses
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.families import FAMILIES, NATIVE, family_for, get_family
from gossamer.models import Architecture, Model, PreTraining, SentenceEmbedding

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
    # Without a pooler, and with an embedding as wide as the layers, BERT and ELECTRA differ in name alone.
    assert public == {"gossamer": [], "bert": ["bert", "electra"]}.get(expected, [expected])


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


def albert(**changes: int) -> Architecture:
    wide = {"hidden_size": 8, "num_attention_heads": 2, "embedding_size": 4, "num_hidden_layers": 3}
    return get_family("albert").read({**wide, **changes})


def sets_of(architecture: Architecture) -> list[int]:
    return [one.attention.weights for one in architecture.layers]


@pytest.mark.parametrize(
    ("changes", "sets"),
    [
        ({}, [0, 0, 0]),
        ({"num_hidden_groups": 3}, [0, 1, 2]),
        ({"num_hidden_groups": 2}, [0, 0, 1]),
        ({"inner_group_num": 2}, [0, 1, 0, 1, 0, 1]),
        ({"num_hidden_groups": 2, "inner_group_num": 2}, [0, 1, 0, 1, 2, 3]),
        ({"num_hidden_layers": 5, "num_hidden_groups": 3}, [0, 0, 1, 1, 2]),
    ],
)
def test_alberts_groups_are_weight_sets(changes: dict[str, int], sets: list[int]) -> None:
    read = albert(**changes)
    assert sets_of(read) == sets
    assert [one.feed_forward.weights for one in read.layers] == sets
    assert family_for(read, "bert").model_type == "albert"
    assert get_family("albert").read(get_family("albert").write(read)) == read


def test_sharing_that_no_groups_give_is_not_alberts() -> None:
    back = with_layer(albert(num_hidden_groups=3), 2, weights=0)
    (said,) = get_family("albert").obstacles(with_layer(back, 2, weights=1))
    assert "layers.2.feed_forward.weights" in said or "[0, 1, 1]" in said
    assert "[0, 1, 0], which no groups of ALBERT do" in get_family("albert").obstacles(back)[0]
    assert family_for(back, "albert").model_type == "gossamer"


def test_alberts_groups_cannot_outnumber_its_layers() -> None:
    with pytest.raises(gs.InputError, match="num_hidden_groups is 4; it must be at most num_hidden_layers, 3"):
        albert(num_hidden_groups=4)


KIN = ("roberta", "xlm-roberta", "camembert")


@pytest.mark.parametrize("family", KIN)
def test_robertas_kin_hold_one_another(family: str) -> None:
    read = get_family(family).read({"hidden_size": 8, "num_attention_heads": 2})
    assert family_for(read, family).model_type == family
    assert all(get_family(one).expresses(read) for one in KIN)
    assert not any(get_family(one).expresses(read) for one in ("bert", "distilbert", "albert", "longformer"))


def test_distilbert_and_bert_hold_different_models() -> None:
    distilbert = get_family("distilbert").read({"dim": 8, "n_heads": 2})
    assert not get_family("bert").expresses(distilbert)
    listed = " ".join(get_family("distilbert").obstacles(BERT))
    assert "embeddings.token_types: 2 != 0" in listed
    assert "residual_dropout" in listed


@pytest.mark.parametrize("family", ["longformer", "roberta", "distilbert"])
def test_a_head_that_a_format_lacks_is_named(family: str, tmp_path: Any) -> None:
    small = {"hidden_size": 8, "num_attention_heads": 2, "dim": 8, "n_heads": 2}
    bare = get_family(family).read(small)
    paired = dataclasses.replace(bare, head=PreTraining())
    said = f"head: the format '{family}' has no pre-training"
    assert get_family(family).obstacles(paired) == [said]
    assert family_for(paired, family).model_type == "gossamer"
    with torch.device("meta"):
        model = Model(paired, family=family)
    with pytest.raises(gs.InputError, match=said):
        gs.save(model, tmp_path / "model", family=family)


def test_a_pooler_needs_a_format_that_has_one() -> None:
    pooled = dataclasses.replace(get_family("distilbert").read({}), pooler=True)
    assert get_family("distilbert").obstacles(pooled) == ["the format 'distilbert' has no pooler"]
    assert get_family("roberta").expresses(get_family("roberta").read({}, pooler=True))
