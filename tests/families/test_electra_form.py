"""What is ELECTRA's own: the embedding's width, the summary of choices, and what each head asks of a file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model, MultipleChoice, ReplacedToken

FORM = get_family("electra")
SMALL: dict[str, Any] = {
    "vocab_size": 20,
    "max_position_embeddings": 30,
    "embedding_size": 5,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 6,
}
CHOICES = torch.arange(4, 16).view(1, 2, 6)


@pytest.mark.parametrize(("embedding", "is_projected"), [(5, True), (8, False), (12, True)])
def test_a_projection_is_there_where_widths_differ(embedding: int, is_projected: bool) -> None:
    config = {**SMALL, "embedding_size": embedding}
    architecture = FORM.read(config)
    assert architecture.embeddings.projection == is_projected
    theirs = transformers.ElectraModel(AutoConfig.for_model("electra", **config))
    assert hasattr(theirs, "embeddings_project") == is_projected
    assert FORM.write(architecture).items() >= config.items()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"summary_type": "mean"},
            "summary_type is 'mean'; Gossamer reads 'ElectraForMultipleChoice' only with 'first'",
        ),
        ({"summary_use_proj": False}, "summary_use_proj is False; .* only with True"),
        ({"summary_proj_to_labels": True}, "summary_proj_to_labels is True; .* only with False"),
        ({"summary_first_dropout": 0.1}, "summary_first_dropout is 0.1; .* only with 0.0"),
    ],
)
def test_what_sums_up_a_choice_otherwise_is_refused_for_choices_alone(fields: dict[str, Any], said: str) -> None:
    for head in ("multiple-choice", MultipleChoice()):
        with pytest.raises(gs.InputError, match=f"^{said}$"):
            FORM.read({**SMALL, **fields}, head=head)
    for head in (None, "masked-lm", "replaced-token", ReplacedToken()):
        FORM.read({**SMALL, **fields}, head=head)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu", "tanh"])
def test_any_activation_sums_up_choices(activation: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model("electra", **SMALL, summary_activation=activation, summary_last_dropout=0.25)
    torch.manual_seed(0)
    theirs = transformers.ElectraForMultipleChoice(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    model = gs.load(tmp_path / "theirs")
    with torch.no_grad():
        torch.testing.assert_close(model(CHOICES).logits, theirs(CHOICES).logits)
    written = json.loads((gs.save(model, tmp_path / "ours") / "config.json").read_text())
    assert (written["summary_activation"], written["summary_last_dropout"]) == (activation, 0.25)


@pytest.mark.parametrize("value", ["linear", "", None, 3])
def test_another_activation_is_refused(value: object) -> None:
    with pytest.raises(gs.InputError, match=r"^summary_activation is .*; it must be one of gelu, .*, tanh$"):
        FORM.read({**SMALL, "summary_activation": value})


def test_the_generators_head_keeps_gelu_whatever_its_layers_have() -> None:
    config = {**SMALL, "hidden_act": "relu"}
    assert FORM.read(config, head="masked-lm").head.activation == "gelu"  # type: ignore[union-attr]
    assert FORM.read(config, head="replaced-token").head.activation == "relu"  # type: ignore[union-attr]


def test_a_discriminator_is_loaded_by_its_class_and_serves_as_an_encoder(tmp_path: Path) -> None:
    model = Model(FORM.read(SMALL, head="replaced-token"), family="electra")
    gs.save(model, tmp_path / "model")
    again = gs.load(tmp_path / "model")
    assert again.architecture.head == ReplacedToken()
    bare = gs.load(tmp_path / "model", head="none")
    assert not bare.notes
    ids = torch.arange(4, 16)[None]
    assert torch.equal(bare(ids).last_hidden_state, again(ids).last_hidden_state)
    with pytest.raises(gs.InputError, match=r"missing: .*generator_predictions\.dense\.weight"):
        gs.load(tmp_path / "model", head="masked-lm")
    gs.save(model, tmp_path / "own", family="gossamer")
    own = gs.load(tmp_path / "own")
    assert own.architecture == model.architecture
    assert torch.equal(own(ids).logits, again(ids).logits)
