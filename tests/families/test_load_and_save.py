"""Loading and saving every family and head: bit for bit, nothing lost, a head that is not there refused or drawn."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import gossamer as gs
from gossamer.families import FAMILIES, get_family
from gossamer.models import (
    Architecture,
    Attention,
    CausalLM,
    Embeddings,
    FeedForward,
    Layer,
    Model,
    Positions,
    QuestionAnswering,
    SequenceClassification,
)
from gossamer.patterns import Full

EVERY = [(form.model_type, head) for form in FAMILIES.values() if form.public for head in (None, *form.heads)]
PUBLIC = [form.model_type for form in FAMILIES.values() if form.public]
ENCODERS = [family for family, head in EVERY if head == "masked-lm"]
WIDE = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 6}
TWO_TEXTS = {
    "d_model": 8, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 6, "decoder_ffn_dim": 5, "pad_token_id": 1,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 6},
    "albert": {**WIDE, "num_hidden_groups": 2, "inner_group_num": 2, "embedding_size": 5},
    "electra": {**WIDE, "embedding_size": 5},
    "modernbert": {**WIDE, "pad_token_id": 1},
    "longformer": {**WIDE, "attention_window": [4, 6, 2]},
    "gpt2": {"n_embd": 8, "n_layer": 3, "n_head": 2, "n_inner": 6},
    "deberta-v2": {
        **WIDE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4,
        "embedding_size": 5, "share_att_key": False, "norm_rel_ebd": "layer_norm",
    },
    "bart": TWO_TEXTS,
    "led": {**TWO_TEXTS, "attention_window": [4, 6, 2]},
    "marian": {**TWO_TEXTS, "decoder_start_token_id": 1},
    "t5": {"d_model": 8, "d_kv": 3, "d_ff": 6, "num_layers": 3, "num_heads": 2},
    "reformer": {
        "hidden_size": 8, "attn_layers": ["local", "lsh", "lsh"], "num_attention_heads": 2, "attention_head_size": 4,
        "feed_forward_size": 6, "axial_pos_shape": [5, 6], "axial_pos_embds_dim": [3, 5], "num_buckets": 4,
    },
}  # fmt: skip
LABELS = {"id2label": {"0": "low", "1": "mid", "2": "high"}, "label2id": {"low": 0, "mid": 1, "high": 2}}
KEPT = {"bos_token_id": 0, "an_unknown_field": {"nested": [1, None, "ü"]}}


def build(family: str, head: str | None) -> Model:
    form = get_family(family)
    config = {"vocab_size": 20, "max_position_embeddings": 30, **OWN.get(family, WIDE), **LABELS}
    config |= {"is_decoder": True} if (family, head) == ("reformer", "causal-lm") else {}
    model = Model(form.read(config, head=head, pooler=head is None and "pooler" in form.keys), family=family)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.extra_config = dict(KEPT)
    return model


def same(one: Model, other: Model) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(("family", "head"), EVERY)
def test_load_save_load_is_bitwise(family: str, head: str | None, tmp_path: Path) -> None:
    model = build(family, head)
    first = gs.load(gs.save(model, tmp_path / "first"))
    second = gs.load(gs.save(first, tmp_path / "second"))
    for again in (first, second):
        assert (again.family, again.architecture) == (family, model.architecture)
        assert same(again, model)
        assert {name: again.extra_config[name] for name in KEPT} == KEPT
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_settings_that_would_say_something_else_in_the_new_format_are_left_out(tmp_path: Path) -> None:
    """Another name of a field that was written; what the format refuses; files of code, which are not copied."""
    code = {"auto_map": {"AutoModel": "modeling_own.OwnModel"}, "custom_pipelines": {"own": {"impl": "own.Own"}}}
    model = build("distilbert", None)
    model.extra_config = {"hidden_size": 999, "position_embedding_type": "relative_key", **KEPT, **code}
    gs.save(model, tmp_path / "own")
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    assert config.keys() & model.extra_config.keys() == {"position_embedding_type", *KEPT}
    assert gs.load(tmp_path / "own").architecture == model.architecture
    long, _ = gs.lengthen(model, to=64, window=4)
    for format_, absent in (("longformer", {"position_embedding_type", *code}), ("gossamer", set(code))):
        gs.save(long, tmp_path / format_, family=format_)
        config = json.loads((tmp_path / format_ / "config.json").read_text())
        assert not config.keys() & absent
        assert {name: config[name] for name in KEPT} == KEPT
        assert gs.load(tmp_path / format_).architecture == long.architecture
    long.extra_config["position_embedding_type"] = "absolute"
    gs.save(long, tmp_path / "longformer")
    assert json.loads((tmp_path / "longformer" / "config.json").read_text())["position_embedding_type"] == "absolute"


def test_a_setting_may_have_its_alias_for_a_name(tmp_path: Path) -> None:
    model = build("distilbert", None)
    path = gs.save(model, tmp_path / "model") / "config.json"
    config = json.loads(path.read_text())
    heads = config.pop("n_heads")
    path.write_text(json.dumps({**config, "num_attention_heads": heads, "hidden_size": config["dim"]}))
    again = gs.load(tmp_path / "model")
    assert again.architecture == model.architecture
    # Written under one name: another one would count in transformers, whatever a recipe made of the first.
    assert (
        not {"num_attention_heads", "hidden_size"}
        & json.loads((gs.save(again, tmp_path / "again") / "config.json").read_text()).keys()
    )
    path.write_text(json.dumps({**config, "n_heads": heads, "num_attention_heads": 4}))
    with pytest.raises(gs.InputError, match="num_attention_heads is 4, but n_heads, the same setting, is 2; keep one"):
        gs.load(tmp_path / "model")


# ModernBERT's and Reformer's norms were never called LayerNorm.
@pytest.mark.parametrize("family", [family for family in ENCODERS if family not in ("modernbert", "reformer")])
def test_old_names_of_norms_are_understood(family: str, tmp_path: Path) -> None:
    model = build(family, "masked-lm")
    path = gs.save(model, tmp_path / "model") / "model.safetensors"
    (tmp_path / "model" / "gossamer.json").unlink()
    old = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    tensors = load_file(path)
    aged = {re.sub(r"\.LayerNorm\.(weight|bias)$", lambda m: old[m[0]], name): one for name, one in tensors.items()}
    assert aged.keys() != tensors.keys()
    save_file(aged, path)
    assert same(gs.load(tmp_path / "model"), model)


@pytest.mark.parametrize("family", ENCODERS)
def test_labels_survive_an_encoder_that_has_none(family: str, tmp_path: Path) -> None:
    gs.save(build(family, "sequence-classification"), tmp_path / "first")
    bare = gs.load(tmp_path / "first", head="none")
    assert bare.architecture.head is None
    config = json.loads((gs.save(bare, tmp_path / "second") / "config.json").read_text())
    assert {name: config[name] for name in LABELS} == LABELS
    assert config["architectures"] == [get_family(family).bare]


@pytest.mark.parametrize("family", [family for family, head in EVERY if head == "question-answering"])
def test_a_head_that_is_not_there_is_refused_with_the_remedy(family: str, tmp_path: Path) -> None:
    gs.save(build(family, None), tmp_path / "bare")
    with pytest.raises(gs.InputError) as caught:
        gs.load(tmp_path / "bare", head="question-answering")
    missing = "classifier.weight, classifier.bias" if family == "modernbert" else "qa_outputs.weight, qa_outputs.bias"
    assert missing in str(caught.value)
    assert "head=gossamer.models.QuestionAnswering(...)" in str(caught.value)


@pytest.mark.parametrize("family", ENCODERS)
def test_a_new_head_is_drawn_from_torchs_generator(family: str, tmp_path: Path) -> None:
    model = build(family, None)
    gs.save(model, tmp_path / "bare")
    activation = {"distilbert": "relu", "electra": "gelu"}.get(family, "tanh")
    new = SequenceClassification(labels=("a", "b"), pooler_activation=activation)
    loaded = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        loaded.append(gs.load(tmp_path / "bare", head=new))
    one, again, other = (net.state_dict() for net in loaded)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["head.output.weight"], other["head.output.weight"])
    assert one["head.output.bias"].abs().sum() == 0
    encoder = {name: value for name, value in model.state_dict().items() if not name.startswith("pooler")}
    assert all(torch.equal(one[name], encoder[name]) for name in encoder)
    # BERT's and ALBERT's classifiers read the encoder's pooler, which the file has.
    kept = family in ("bert", "albert")
    assert torch.equal(one["head.dense.weight"], other["head.dense.weight"]) == kept
    if kept:
        assert torch.equal(one["head.dense.weight"], model.state_dict()["pooler.weight"])
    assert same(gs.load(gs.save(loaded[0], tmp_path / "new")), loaded[0])


def test_a_new_head_takes_the_place_of_another(tmp_path: Path) -> None:
    gs.save(build("roberta", "masked-lm"), tmp_path / "model")
    torch.manual_seed(3)
    net = gs.load(tmp_path / "model", head=QuestionAnswering())
    assert net.architecture.head == QuestionAnswering()
    assert net.state_dict()["head.output.weight"].std() > 0


@pytest.mark.parametrize("family", [family for family in ENCODERS if family != "reformer"])  # it is never tied
def test_a_table_untied_by_hand_starts_as_the_word_table(family: str, tmp_path: Path) -> None:
    model = build(family, "masked-lm")
    again = gs.load(gs.save(model, tmp_path), head=replace(model.architecture.head, tied=False))  # type: ignore[type-var]
    ids = torch.arange(3, 12)[None]
    assert torch.equal(again(ids).logits, model.eval()(ids).logits)


def test_a_table_of_its_own_is_drawn_where_the_word_table_has_another_size(tmp_path: Path) -> None:
    layer = Layer(
        attention=Attention(pattern=Full(causal=True), heads=2, head_size=8, weights=0),
        feed_forward=FeedForward(width=20, weights=0),
    )
    embeddings = Embeddings(vocabulary_size=30, size=8, projection=True, positions=Positions(length=20))
    gs.save(Model(Architecture(hidden_size=16, embeddings=embeddings, layers=(layer,))), tmp_path)
    table = gs.load(tmp_path, head=CausalLM(tied=False)).state_dict()["head.decoder.weight"]
    assert table.shape == (30, 16)
    assert table.std() > 0


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_head_whose_parts_the_format_has_not_is_told_by_what_differs(family: str, tmp_path: Path) -> None:
    gs.save(build(family, "causal-lm"), tmp_path)
    with pytest.raises(gs.InputError) as refused:
        gs.load(tmp_path, head=SequenceClassification(labels=("no", "yes")))
    assert str(refused.value) == (
        f"{tmp_path / 'config.json'}: the format '{family}' has no place for the tensor 'head.dense.weight'; give a "
        "head as the format has it, this one differs: head.dropout: 0.1 != 0.0; head.reads: 'first' != 'last'"
    )
    last = SequenceClassification(labels=("no", "yes"), reads="last", dropout=0.0)
    assert gs.load(tmp_path, head=last).architecture.head == last
