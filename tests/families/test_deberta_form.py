"""DeBERTa's form: ranges of distances, both forms of its masked LM, released files, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import gossamer as gs
from gossamer.families import FAMILIES, get_family
from gossamer.layers import RelativeStates
from gossamer.models import Architecture, CausalLM, Model, Norm, RelativePositions
from gossamer.models.stack import Stack

SMALL = {
    "vocab_size": 20, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 10,
    "max_position_embeddings": 30,
}  # fmt: skip
RELATIVE = {
    "relative_attention": True, "pos_att_type": "p2c|c2p", "position_buckets": 8, "share_att_key": True,
    "norm_rel_ebd": "layer_norm", "position_biased_input": False, "max_relative_positions": -1,
}  # fmt: skip
IDS = torch.tensor([[1, 7, 9, 3, 2, 11, 5, 17, 19, 4, 8, 13]])


def read(**changes: Any) -> Architecture:
    return get_family("deberta-v2").read({**SMALL, **RELATIVE, **changes})


def theirs(head: str, **changes: Any) -> Any:
    """transformers' model, every weight of it drawn."""
    torch.manual_seed(4)
    config = transformers.DebertaV2Config(**{**SMALL, **RELATIVE, **changes})
    model = getattr(transformers, f"DebertaV2{head}")(config).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


@pytest.mark.parametrize("farthest", [40, 128, 512])
@pytest.mark.parametrize("span", [2, 3, 4, 5, 8, 32, 64])
def test_ranges_are_those_of_transformers(span: int, farthest: int) -> None:
    """At every distance up to beyond the last range, in both directions."""
    length = 2 * farthest + 9
    there = transformers.models.deberta_v2.modeling_deberta_v2.build_relative_position
    like = torch.empty(1, length, 1)
    wanted = (there(like, like, bucket_size=span, max_position=farthest)[0] + span).clamp(0, 2 * span - 1)
    states = RelativeStates(3, span, farthest=farthest, norm=None, dropout=0.0)
    with torch.no_grad():
        states.states.copy_(torch.arange(2 * span)[:, None].expand(-1, 3))
        found = states(length)
    apart = torch.arange(length) - torch.arange(length)[:, None]
    assert torch.equal(found.states[found.rows[apart + found.before], 0].long(), wanted)


def test_few_tokens_read_few_states() -> None:
    states = RelativeStates(3, 256, farthest=512, norm=None, dropout=0.0)
    assert len(states(1).states) == 1
    assert len(states(12).states) == 23
    assert len(states(512).states) == 511
    assert len(states(2000).states) == 512


def test_fields_become_states_of_distances() -> None:
    given = read().layers[1].attention.distance_bias
    assert given == RelativePositions(span=8, farthest=30, weights=0, norm=Norm(eps=1e-7))
    other = read(position_buckets=-1, norm_rel_ebd="none", share_att_key=False, pos_att_type=["c2p"])
    assert other.layers[0].attention.distance_bias == RelativePositions(
        span=30, weights=0, norm=None, own_maps=True, terms=("content-to-position",)
    )
    plain = get_family("deberta-v2").read(SMALL)
    assert plain.layers[0].attention.distance_bias is None
    assert plain.embeddings.positions.scheme == "learned"
    # One term of three is content to content.
    assert read().layers[0].attention.scale == pytest.approx(1 / 12**0.5, rel=1e-7)


def test_short_texts_need_no_ranges(tmp_path: Path) -> None:
    """Half as many buckets as there are distances, and more: transformers then reads none of its logarithms."""
    for length, buckets in ((5, 8), (12, 30), (12, 22)):
        model = theirs("Model", max_position_embeddings=length, position_buckets=buckets)
        model.save_pretrained(tmp_path / "theirs")
        ours = gs.load(tmp_path / "theirs")
        assert ours.architecture.layers[0].attention.distance_bias.farthest is None
        gs.save(ours, tmp_path / "ours")
        again = transformers.DebertaV2Model.from_pretrained(tmp_path / "ours").eval()
        ids = IDS[:, :length]
        wanted = model(ids).last_hidden_state
        for found in (ours(ids).last_hidden_state, again(ids).last_hidden_state):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_both_forms_of_the_masked_lm_are_one_head(tmp_path: Path) -> None:
    """The newer form is read under its own names, and written under the older ones, which give the same numbers."""
    newer = theirs("ForMaskedLM", legacy=False)
    newer.save_pretrained(tmp_path / "newer")
    stored = load_file(tmp_path / "newer" / "model.safetensors")
    assert any(name.startswith("lm_predictions.lm_head.") for name in stored)
    ours = gs.load(tmp_path / "newer")
    assert ours.architecture.head.kind == "masked-lm"
    wanted = newer(IDS).logits
    torch.testing.assert_close(ours(IDS).logits, wanted, rtol=1e-12, atol=1e-12)
    gs.save(ours, tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["legacy"] is True
    again, info = transformers.DebertaV2ForMaskedLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(again.eval()(IDS).logits, wanted, rtol=1e-9, atol=1e-9)


def test_files_as_released_are_read(tmp_path: Path) -> None:
    """Version 3 keeps the newer names, a second head of its own and a table of positions, and says little of it."""
    newer = theirs("ForMaskedLM", legacy=False)
    newer.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    extra = {
        "mask_predictions.dense.weight": torch.zeros(12, 12), "mask_predictions.classifier.bias": torch.zeros(1),
        "deberta.embeddings.position_embeddings.weight": torch.zeros(30, 12),
    }  # fmt: skip
    save_file(load_file(path) | extra, path)
    config = {"model_type": "deberta-v2", "attention_head_size": 4, **SMALL, **RELATIVE, "type_vocab_size": 0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read_as = gs.load(tmp_path, head="masked-lm")
    torch.testing.assert_close(read_as(IDS).logits, newer(IDS).logits, rtol=1e-12, atol=1e-12)
    bare = gs.load(tmp_path)
    torch.testing.assert_close(
        bare(IDS).last_hidden_state, newer.deberta(IDS).last_hidden_state, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size is 3; Gossamer reads 'deberta-v2' only with 0"),
        ({"pos_att_type": "c2p|p2p"}, "pos_att_type is 'c2p|p2p'; it must be c2p, p2c or both"),
        ({"pos_att_type": None}, "pos_att_type is None; with relative_attention it must name c2p, p2c or both"),
        ({"relative_attention": False}, "pos_att_type is 'p2c|c2p'; leave it out where relative_attention is false"),
        ({"norm_rel_ebd": "rms"}, "norm_rel_ebd is 'rms'; it must be one of none, layer_norm"),
        ({"position_buckets": -2}, "position_buckets is -2; it must be a whole number from -1"),
        ({"position_buckets": 1}, "span is 1; it must be 2 or more with a farthest"),
        ({"max_relative_positions": 5}, "farthest is 5; it must be a whole number from 6 on, or None"),
        ({"attention_head_size": 5}, "attention_head_size is 5; Gossamer reads 'deberta-v2' only with 4"),
        ({"pooler_hidden_size": 5}, "pooler_hidden_size is 5; Gossamer reads 'deberta-v2' only with 12"),
        ({"type_vocab_size": -1}, "type_vocab_size is -1; it must be a whole number from 0"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(gs.InputError) as caught:
        read(**changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_choices_with_a_dropout_before_the_pooler_are_refused() -> None:
    with pytest.raises(
        gs.InputError, match=r"pooler_dropout is 0\.1; Gossamer reads 'DebertaV2ForMultipleChoice' only"
    ):
        get_family("deberta-v2").read({**SMALL, **RELATIVE, "pooler_dropout": 0.1}, head="multiple-choice")


def test_other_formats_do_not_hold_it(tmp_path: Path) -> None:
    """And Gossamer's own does, when what the family has no word for is changed."""
    architecture = read()
    holding = [name for name, form in FAMILIES.items() if form.expresses(architecture)]
    assert holding == ["deberta-v2", "gossamer"]
    model = Model(architecture, family="deberta-v2").eval()
    gs.save(model, tmp_path / "own", family="gossamer")
    again = gs.load(tmp_path / "own")
    assert again.architecture == architecture
    assert torch.equal(again(IDS).last_hidden_state, model(IDS).last_hidden_state)


def test_a_decoder_or_a_cache_of_it_is_refused() -> None:
    plain = read()
    causal = plain.with_layers(lambda one: replace(one, attention=replace(one.attention, pattern=gs.Full(causal=True))))
    with pytest.raises(gs.InputError, match="states of distances are read by encoders alone"):
        replace(causal, head=CausalLM())
    stack = Stack(12, causal.layers, length=30).eval()
    with pytest.raises(gs.InputError, match="a cache was given to attention with states of distances"):
        stack(torch.zeros(1, 3, 12), cache=stack.cache())


def test_version_3_base_has_the_shapes_of_transformers() -> None:
    """Its settings, in the words of its config.json."""
    config = {
        "model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1,
        "hidden_act": "gelu", "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
        "max_position_embeddings": 512, "relative_attention": True, "position_buckets": 256,
        "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7,
        "max_relative_positions": -1, "position_biased_input": False, "num_attention_heads": 12,
        "num_hidden_layers": 12, "type_vocab_size": 0, "vocab_size": 128100,
    }  # fmt: skip
    with torch.device("meta"):
        ours = Model(get_family("deberta-v2").read(config), family="deberta-v2")
        theirs = transformers.DebertaV2Model(transformers.DebertaV2Config(**config))
    form = get_family("deberta-v2")
    shapes = {form.names([name], ours.architecture)[name][0]: one.shape for name, one in ours.state_dict().items()}
    assert shapes == {name: one.shape for name, one in theirs.state_dict().items()}
    assert sum(one.numel() for one in ours.parameters()) == 183_831_552
    written = form.write(ours.architecture)
    assert {name: written[name] for name in config if name not in ("model_type", "pos_att_type")} == {
        name: value for name, value in config.items() if name not in ("model_type", "pos_att_type")
    }
