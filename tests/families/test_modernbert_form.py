"""ModernBERT's config.json: both ways to say layers and bases, what is refused, what the format cannot hold."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from live_bytes import LiveBytes
from transformers import ModernBertConfig, ModernBertForMaskedLM, ModernBertModel

import gossamer as gs
from gossamer.families import get_family
from gossamer.inspection import cost
from gossamer.models import Architecture, Model, Rotary
from gossamer.patterns import Full, Window

FORM = get_family("modernbert")
SMALL = {
    "vocab_size": 24, "hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 6,
    "max_position_embeddings": 64, "pad_token_id": 1, "local_attention": 8,
}  # fmt: skip
F, S = "full_attention", "sliding_attention"


def read(**changes: Any) -> Architecture:
    return FORM.read({**SMALL, **changes}, head="masked-lm")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"global_attn_every_n_layers": 2},
        {"layer_types": [S, F, F, S]},
        {"global_rope_theta": 500.0, "local_rope_theta": 70.0},
        {"rope_parameters": {F: {"rope_theta": 500.0}}, "local_rope_theta": 70.0},
        {"rope_parameters": {F: {"rope_theta": 500.0}, S: {"rope_theta": 70.0}}},
        {"layer_types": [F, F, F, F]},
    ],
)
def test_layers_and_bases_are_those_of_transformers(changes: dict[str, Any]) -> None:
    theirs = ModernBertConfig(**SMALL, **changes)
    mine = read(**changes)
    patterns = [Full() if kind == F else Window(4, 4) for kind in theirs.layer_types]
    bases = [theirs.rope_parameters[kind]["rope_theta"] for kind in theirs.layer_types]
    assert [one.attention.pattern for one in mine.layers] == patterns
    assert [one.attention.rotary for one in mine.layers] == [Rotary(base=one) for one in bases]
    assert mine == FORM.read(theirs.to_dict(), head="masked-lm")
    written = FORM.write(mine)
    assert written["layer_types"] == theirs.layer_types
    assert FORM.read(written, head="masked-lm") == mine
    assert not FORM.obstacles(mine)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer_types": [F, S]}, "layer_types is a list of 2; it must have one entry for each layer, 4"),
        ({"layer_types": ["chunked_attention"] * 4}, "layer_types is"),
        ({"rope_parameters": {F: {"rope_type": "yarn"}}}, "rope_parameters.full_attention.rope_type is 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type is 'linear'"),
        (
            {
                "rope_parameters": {F: {"rope_type": "default"}, S: {"rope_type": "default"}},
                "rope_scaling": {"type": "linear", "factor": 2.0},
            },
            "rope_type is 'linear'",
        ),
        ({"rope_parameters": {F: {"rope_type": "default", "type": "yarn"}}}, "rope_type is 'yarn'"),
        ({"rope_parameters": {"rope_theta": 5.0}}, "rope_parameters has 'rope_theta'"),
        ({"rope_parameters": {S: {"rope_theta": -1}}}, "rope_theta is -1; it must be a finite number above 0"),
        ({"sparse_prediction": True}, "sparse_prediction is True"),
        ({"head_dim": 8}, "head_dim is 8"),
        ({"hidden_size": 6}, "rotary.share is 1.0"),
        ({"classifier_pooling": "max"}, "classifier_pooling is 'max'; it must be 'cls' or 'mean'"),
    ],
)
def test_bad_values_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(gs.InputError) as caught:
        read(**changes)
    assert said.lower() in str(caught.value).lower()
    assert "\n" not in str(caught.value)


def test_what_the_format_cannot_hold_is_named() -> None:
    wide = read()
    first = dataclasses.replace(wide.layers[0], norm_place="pre")
    said = FORM.obstacles(dataclasses.replace(wide, layers=(first, *wide.layers[1:])))
    assert any(one.startswith("layers.0.norm_place") for one in said)
    odd = dataclasses.replace(
        wide.layers[2], attention=dataclasses.replace(wide.layers[2].attention, pattern=Window(3, 3))
    )
    assert FORM.obstacles(dataclasses.replace(wide, layers=(*wide.layers[:2], odd, wide.layers[3])))


@pytest.mark.parametrize("side", ["left", "right"])
def test_real_tokens_beside_wide_padding_are_those_of_transformers(side: str, tmp_path: Path) -> None:
    """Padding beyond every window sees nothing, and is zeros here and a mean over padding there."""
    torch.manual_seed(0)
    theirs = ModernBertModel(ModernBertConfig(**{**SMALL, "local_attention": 4}, bos_token_id=2, eos_token_id=3)).eval()
    theirs.save_pretrained(tmp_path)
    ours, ids = gs.load(tmp_path), torch.randint(4, 24, (2, 40))
    mask = torch.arange(40) < torch.tensor([[11], [40]])
    mask = mask.flip(1) if side == "left" else mask
    with torch.no_grad():
        found, expected = (one(ids, attention_mask=mask.long()).last_hidden_state for one in (ours, theirs))
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-5, atol=1e-5)


def test_lengthen_refuses_it_in_one_line() -> None:
    with pytest.raises(gs.InputError, match=r"^the model's positions are rotary.*max_position_embeddings") as caught:
        gs.lengthen(Model(read()), to=128, window=4)
    assert "\n" not in str(caught.value)


PUBLISHED = {
    "architectures": ["ModernBertForMaskedLM"], "attention_bias": False, "attention_dropout": 0.0,
    "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0, "classifier_pooling": "mean",
    "decoder_bias": True, "deterministic_flash_attn": False, "embedding_dropout": 0.0, "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0, "gradient_checkpointing": False, "hidden_activation": "gelu", "hidden_size": 16,
    "initializer_cutoff_factor": 2.0, "initializer_range": 0.02, "intermediate_size": 24, "layer_norm_eps": 1e-05,
    "local_attention": 8, "local_rope_theta": 10000.0, "max_position_embeddings": 64, "mlp_bias": False,
    "mlp_dropout": 0.0, "model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 2,
    "num_hidden_layers": 4, "pad_token_id": 3, "position_embedding_type": "absolute", "repad_logits_with_grad": False,
    "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "sparse_pred_ignore_index": -100,
    "sparse_prediction": False, "tie_word_embeddings": True, "torch_dtype": "float32", "vocab_size": 40,
    "transformers_version": "4.47.0.dev0",
}  # fmt: skip
"""The settings of the first published ModernBERT, in small sizes."""


def test_a_published_checkpoint_loads_with_the_outputs_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = ModernBertForMaskedLM(ModernBertConfig(**PUBLISHED)).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED), encoding="utf-8")
    mine, ids = gs.load(tmp_path), torch.randint(4, 40, (2, 50))
    wanted = ModernBertForMaskedLM.from_pretrained(tmp_path)(input_ids=ids).logits
    torch.testing.assert_close(mine(ids).logits, wanted, rtol=1e-4, atol=1e-5)
    assert mine.notes == []
    again = ModernBertForMaskedLM.from_pretrained(gs.save(mine, tmp_path / "saved"))(input_ids=ids).logits
    torch.testing.assert_close(again, wanted, rtol=1e-4, atol=1e-5)


def test_memory_of_a_whole_model_grows_with_the_text() -> None:
    """Windows run as windows, and full attention keeps no square."""
    described = FORM.read({**SMALL, "hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 2**15})
    model, live = Model(described).eval(), []
    for length in (2**13, 2**14):
        with torch.no_grad(), LiveBytes(model) as bytes_now:
            model(torch.ones(1, length, dtype=torch.int64))
        live.append(bytes_now.most)
        assert cost(described, length).activations == pytest.approx(bytes_now.most, rel=0.15)
    assert live[1] == pytest.approx(2 * live[0], rel=0.01)
    assert cost(described, 2**14).backends == ("cpu",)
