"""Llama's config.json: both ways to say the rotary base, what is refused, what the format cannot hold."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

import gossamer as gs
from gossamer.families import family_for, get_family
from gossamer.models import Architecture, CausalLM, Model, Norm, Positions, Rotary
from gossamer.patterns import Full, Window

transformers.utils.logging.disable_progress_bar()
FORM = get_family("llama")
SMALL = {
    "vocab_size": 24, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 6, "max_position_embeddings": 16,
}  # fmt: skip
IDS = torch.tensor([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])


def read(**changes: Any) -> Architecture:
    return FORM.read({**SMALL, **changes}, head="causal-lm")


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 500.0}, "rope_theta": None},
        {"rope_theta": 500.0},
        {"rope_theta": 500, "rope_scaling": None},
        {"rope_theta": 500.0, "rope_scaling": {"type": "default"}},
        {"rope_scaling": {"type": "default", "rope_theta": 500.0}, "rope_parameters": {"rope_theta": 7.0}},
        {"rope_theta": 500.0, "rope_parameters": {"rope_type": "default"}, "rope_scaling": {}},
        {"rope_theta": 7.0, "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
    ],
)
def test_every_way_to_say_the_base(changes: dict[str, Any]) -> None:
    """As transformers reads them."""
    architecture = read(**changes)
    assert [one.attention.rotary for one in architecture.layers] == [Rotary(base=500.0)] * 2
    assert LlamaConfig(**SMALL, **changes).rope_parameters["rope_theta"] == 500.0
    assert FORM.write(architecture)["rope_parameters"] == {"rope_theta": 500.0, "rope_type": "default"}
    assert "rope_theta" not in FORM.write(architecture)
    assert read().layers[0].attention.rotary == Rotary(base=10000.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling.rope_type is 'linear'; Gossamer reads"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling.rope_type is 'llama3'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters.rope_type is 'yarn'"),
        ({"rope_parameters": {"rope_type": "default", "type": "yarn"}}, "rope_parameters.rope_type is 'yarn'"),
        (
            {"rope_parameters": {"rope_type": "default"}, "rope_scaling": {"rope_type": "yarn"}},
            "rope_scaling.rope_type is 'yarn'",
        ),
        ({"rope_parameters": {"rope_theta": -1.0}}, "rope_theta is -1.0; it must be a finite number above 0"),
        ({"rope_parameters": 10000.0}, "rope_parameters is 10000.0; it must be an object, or null"),
        ({"rope_theta": "long"}, "rope_theta is 'long'; it must be a finite number above 0, or null"),
        ({"num_key_value_heads": 3}, "key_heads is 3; it must be a divisor of heads, 4"),
        ({"head_dim": 3}, "rotary.share is 1.0; it must be a share of head_size, 3, that is an even number"),
        ({"hidden_size": 9}, "hidden_size is 9; it must be a multiple of num_attention_heads, 4"),
        ({"attention_bias": 1}, "attention_bias is 1; it must be true or false"),
        ({"pad_token_id": 24}, "pad_token_id is 24; it must be a token id from 0 to 23"),
    ],
)
def test_bad_values_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(gs.InputError) as caught:
        read(**changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def changed(part: str, **values: Any) -> Architecture:
    layers = tuple(
        dataclasses.replace(one, **{part: dataclasses.replace(getattr(one, part), **values)}) for one in read().layers
    )
    return dataclasses.replace(read(), layers=layers)


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (changed("attention", pattern=Window(3, 0)), "layers.0.attention.pattern"),
        (changed("attention", output_bias=True), "layers.0.attention.output_bias: True != False"),
        (changed("attention", rotary=Rotary(share=0.5), head_size=4), "layers.0.attention.rotary.share: 0.5 != 1.0"),
        (changed("attention", rotary=None), "layers.0.attention.rotary: None != "),
        (changed("attention", query_key_norm=Norm()), "layers.0.attention.query_key_norm"),
        (changed("feed_forward", gated=False), "layers.0.feed_forward.gated: False != True"),
        (changed("norm", eps=1e-3), "final_norm.eps: 1e-06 != 0.001"),
        (changed("norm", offset=1.0), "layers.0.norm.offset: 1.0 != 0.0"),
    ],
)
def test_what_the_format_cannot_hold_is_named_and_saved_natively(
    architecture: Architecture, said: str, tmp_path: Path
) -> None:
    assert said in "; ".join(FORM.obstacles(architecture))
    model = Model(architecture, family="llama")
    again = gs.load(gs.save(model, tmp_path / "model"))
    assert (again.family, again.architecture) == ("gossamer", architecture)
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, model.eval()(IDS).logits)


def test_old_files_have_a_base_and_angles_of_their_own(tmp_path: Path) -> None:
    """As files of before have them, which transformers reads, too."""
    torch.manual_seed(0)
    theirs = LlamaForCausalLM(LlamaConfig(**SMALL, rope_theta=50.0)).eval()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    path.write_text(json.dumps(config | {"rope_theta": 50.0, "rope_scaling": None, "pretraining_tp": 1}))
    angles = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(1) for i in range(2)}
    (tmp_path / "model.safetensors").unlink()
    torch.save({**theirs.state_dict(), **angles}, tmp_path / "pytorch_model.bin")
    ours = gs.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(ours(IDS).logits, theirs(IDS).logits, rtol=1e-5, atol=1e-5)
    written = json.loads((gs.save(ours, tmp_path / "again") / "config.json").read_text())
    assert written["rope_parameters"] == {"rope_theta": 50.0, "rope_type": "default"}
    assert not {"rope_theta", "rope_scaling"} & set(written)


def test_documents_in_one_row_read_as_alone() -> None:
    """Nothing crosses documents, and turns depend on distances alone."""
    model = Model(read()).double().eval()
    segments = torch.tensor([[0, 0, 1, 1, 1, 1]])
    with torch.no_grad():
        packed = model(IDS[:1], segments=segments).logits
        alone = torch.cat([model(one).logits for one in (IDS[:1, :2], IDS[:1, 2:])], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-9, atol=1e-12)


def test_a_model_of_learned_positions_is_no_llama() -> None:
    embeddings = dataclasses.replace(read().embeddings, positions=Positions(length=16))
    learned = dataclasses.replace(read(), embeddings=embeddings)
    assert any("positions.scheme: 'learned' != 'none'" in one for one in FORM.obstacles(learned))
    assert family_for(read(), "bert").model_type == "llama"
    assert read().head == CausalLM(tied=False)


def test_lengthen_refuses_rotary_positions() -> None:
    with pytest.raises(
        gs.InputError, match=r"^layer 0 attends by 'causal full'.*lengthen replaces full attention only"
    ):
        gs.lengthen(Model(read()), to=32, window=4)
    layers = tuple(
        dataclasses.replace(one, attention=dataclasses.replace(one.attention, pattern=Full())) for one in read().layers
    )
    with pytest.raises(gs.InputError, match=r"^the model's positions are rotary, of base 10000, and"):
        gs.lengthen(Model(dataclasses.replace(read(), head=None, layers=layers)), to=32, window=4)


@pytest.mark.parametrize(
    ("given", "rate"), [({}, 0.1), ({"classifier_dropout": None}, 0.1), ({"classifier_dropout": 0.5}, 0.5)]
)
def test_dropout_before_the_labels_of_tokens(given: dict[str, Any], rate: float) -> None:
    """That of transformers; written only where it says another one."""
    architecture = FORM.read({**SMALL, **given}, head="token-classification")
    theirs = transformers.LlamaForTokenClassification(LlamaConfig(**SMALL, **given))
    assert (architecture.head.dropout, theirs.dropout.p) == (rate, rate)  # type: ignore[union-attr]
    assert FORM.write(architecture).get("classifier_dropout", 0.1) == rate


def test_what_is_missing_beside_a_head_is_named_as_its_files_spell_it(tmp_path: Path) -> None:
    """A question answering model keeps its layers under a prefix of its own."""
    theirs = transformers.LlamaForQuestionAnswering(LlamaConfig(**SMALL))
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(
        {name: one for name, one in theirs.state_dict().items() if "norm" not in name}, tmp_path / "pytorch_model.bin"
    )
    with pytest.raises(gs.InputError, match=r"5 missing: transformer\.layers\.0\.input_layernorm\.weight"):
        gs.load(tmp_path)
    assert (
        gs.load(gs.save(Model(FORM.read(SMALL, head="question-answering"), family="llama"), tmp_path / "ours")).family
        == "llama"
    )


def test_labels_of_tokens_without_a_bias_are_refused() -> None:
    with pytest.raises(gs.InputError, match=r"^token_classification_bias is False; Gossamer reads 'LlamaForToken"):
        FORM.read({**SMALL, "token_classification_bias": False}, head="token-classification")
    FORM.read({**SMALL, "token_classification_bias": False}, head="causal-lm")
