"""ModernBERT's config.json: both ways to say layers and bases, what is refused, what the format cannot hold."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ModernBertConfig, ModernBertModel

import gossamer as gs
from gossamer.families import get_family
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
