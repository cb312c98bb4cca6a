"""GPT-2's config.json: what it says of an architecture, what it cannot say, and old files' ways of saying it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gossamer as gs
from gossamer.families import family_for, get_family
from gossamer.models import Architecture, Model, MultipleChoice, Norm, SequenceClassification

FORM = get_family("gpt2")
SMALL = {"vocab_size": 11, "n_positions": 20, "n_embd": 8, "n_layer": 3, "n_head": 2}


def read(head: str | None = "causal-lm", **changes: Any) -> Architecture:
    return FORM.read({**SMALL, **changes}, head=head)


def with_layers(architecture: Architecture, **changes: Any) -> Architecture:
    """Every layer's attention with these fields; `recompute` is the layer's own."""
    own = {name: changes.pop(name) for name in ("recompute", "norm_place") if name in changes}
    layers = tuple(
        dataclasses.replace(one, attention=dataclasses.replace(one.attention, **changes), **own)
        for one in architecture.layers
    )
    return dataclasses.replace(architecture, layers=layers)


@pytest.mark.parametrize(("n_inner", "width"), [(None, 32), (32, 32), (5, 5)])
def test_width_of_the_feed_forward(n_inner: int | None, width: int) -> None:
    architecture = read(n_inner=n_inner)
    assert {one.feed_forward.width for one in architecture.layers} == {width}
    assert FORM.write(architecture)["n_inner"] == (None if width == 32 else width)


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("by_size", [False, True])
def test_scales_of_the_scores(by_size: bool, by_layer: bool) -> None:
    architecture = read(scale_attn_weights=by_size, scale_attn_by_inverse_layer_idx=by_layer)
    usual = 4**-0.5
    expected = [(usual if by_size else 1.0) / (i if by_layer else 1) for i in (1, 2, 3)]
    assert [one.attention.scale or usual for one in architecture.layers] == expected
    assert by_size is (architecture.layers[0].attention.scale is None)
    written = FORM.write(architecture)
    assert (written["scale_attn_weights"], written["scale_attn_by_inverse_layer_idx"]) == (by_size, by_layer)


@given(heads=st.integers(1, 3), size=st.integers(1, 9), layers=st.integers(1, 4), data=st.data())
def test_every_config_is_written_as_one_that_reads_the_same(
    heads: int, size: int, layers: int, data: st.DataObject
) -> None:
    """Also where two settings mean the same: heads of size 1, one layer alone."""
    config = {
        **SMALL,
        "n_head": heads,
        "n_embd": heads * size,
        "n_layer": layers,
        "n_inner": data.draw(st.none() | st.integers(1, 20)),
        "scale_attn_weights": data.draw(st.booleans()),
        "scale_attn_by_inverse_layer_idx": data.draw(st.booleans()),
        "activation_function": data.draw(st.sampled_from(["gelu_new", "quick_gelu", "relu"])),
        "layer_norm_epsilon": data.draw(st.sampled_from([1e-5, 1e-12])),
        "classifier_dropout": data.draw(st.sampled_from([None, 0.1, 0.3])),
    }
    for head in (None, *FORM.heads):
        architecture = FORM.read(config, head=head)
        assert FORM.obstacles(architecture) == []
        assert FORM.read(FORM.write(architecture), head=head) == architecture
        assert family_for(architecture, "bert").model_type == "gpt2"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (with_layers(read(), pattern=gs.Window(3, 0)), "layers.0.attention.pattern: "),
        (with_layers(read(), pattern=gs.Strided(4)), "layers.0.attention.pattern: "),
        (with_layers(read(head=None), pattern=gs.Full()), "layers.0.attention.pattern: "),
        (with_layers(read(), scale=0.3), "layers scale their scores by [0.3, 0.3, 0.3], which no switches of GPT-2 do"),
        (with_layers(read(), norm_place="post"), "layers.0.norm_place: 'post' != 'pre'"),
        (dataclasses.replace(read(), final_norm=None), "final_norm"),
        (dataclasses.replace(read(), final_norm=Norm(eps=1e-3)), "final_norm.eps: 0.001 != 1e-05"),
        (dataclasses.replace(read(None), head=MultipleChoice()), "no multiple-choice"),
        (dataclasses.replace(read(None), head=SequenceClassification(labels=("a",))), "head.reads: 'first' != 'last'"),
    ],
)
def test_what_the_format_cannot_hold_is_named(changed: Architecture, said: str, tmp_path: Path) -> None:
    assert said in "; ".join(FORM.obstacles(changed))
    model = Model(changed, family="gpt2")
    with pytest.raises(gs.InputError, match="family is 'gpt2', which cannot hold this model: ") as caught:
        gs.save(model, tmp_path / "model", family="gpt2")
    assert said in str(caught.value)
    again = gs.load(gs.save(model, tmp_path / "model"))
    assert (again.family, again.architecture) == ("gossamer", changed)


@pytest.mark.parametrize("initializer", ["normal", "mimetic", "sparse-transformer"])
def test_how_weights_are_drawn_is_no_obstacle(initializer: str, tmp_path: Path) -> None:
    model = Model(dataclasses.replace(read(), initializer=initializer), family="gpt2")
    public = gs.load(gs.save(model, tmp_path / "public"))
    assert (public.family, public.architecture) == ("gpt2", read())
    assert all(torch.equal(one, public.state_dict()[name]) for name, one in model.state_dict().items())
    own = gs.load(gs.save(model, tmp_path / "own", family="gossamer"))
    assert own.architecture == model.architecture


@pytest.mark.parametrize("recompute", ["attention", "feed_forward", "both"])
def test_recomputing_is_no_obstacle(recompute: str, tmp_path: Path) -> None:
    """It changes no output; the file is an ordinary GPT-2's, Gossamer's own format keeps it."""
    model = Model(with_layers(read(), recompute=recompute), family="gpt2")
    assert gs.load(gs.save(model, tmp_path / "public")).architecture == read()
    own = gs.load(gs.save(model, tmp_path / "own", family="gossamer"))
    assert own.architecture == model.architecture


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"n_embd": 9}, "n_embd is 9; it must be a multiple of n_head, 2"),
        ({"n_inner": 0}, "n_inner is 0; it must be a whole number from 1 to 16777216, or null"),
        ({"n_ctx": 16}, "n_ctx is 16, but n_positions, the same setting, is 20; keep one"),
        ({"add_cross_attention": True}, "add_cross_attention is True; Gossamer reads 'gpt2' only with False"),
        ({"scale_attn_weights": 1}, "scale_attn_weights is 1; it must be true or false"),
        ({"activation_function": "softmax"}, "activation_function is 'softmax'; it must be one of "),
        ({"resid_pdrop": 1.0}, "resid_pdrop is 1.0; it must be a rate"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon is 0; it must be a finite number above 0"),
    ],
)
def test_bad_values_are_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(gs.InputError) as caught:
        FORM.read({**SMALL, **config}, head="causal-lm")
    assert said in str(caught.value)


def test_old_files_say_n_ctx() -> None:
    old = {name: value for name, value in SMALL.items() if name != "n_positions"}
    assert FORM.read({**old, "n_ctx": 20}, head="causal-lm") == read()
    assert FORM.read({**SMALL, "n_ctx": 20}, head="causal-lm") == read()
    assert FORM.held(read()) >= {"n_ctx", "n_positions", "n_embd", "hidden_size"}


@pytest.mark.parametrize("name", ["GPT2ForMultipleChoice", "GPT2ForCausalLM"])
def test_heads_that_are_not_read_are_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(
        gs.InputError, match=rf"architectures is '{name}'.*reads GPT2Model, GPT2LMHeadModel.*head='none'"
    ):
        FORM.head_of([name])
    assert FORM.head_of(["GPT2DoubleHeadsModel"]) == "causal-lm"


def test_fresh_weights_are_narrower_where_they_write_into_the_residual_stream() -> None:
    torch.manual_seed(0)
    model = Model(read(n_embd=64, n_layer=8, n_head=2, initializer_range=0.5))
    state = model.state_dict()
    for name in ("attention.3.query", "feed_forward.7.up"):
        assert float(state[f"{name}.weight"].std()) == pytest.approx(0.5, rel=0.05)
    for name in ("attention.3.output", "feed_forward.7.down"):
        assert float(state[f"{name}.weight"].std()) == pytest.approx(0.5 / 4, rel=0.05)


@pytest.mark.parametrize("padding", [0, 3, -1, None])
@pytest.mark.parametrize("masked", [None, "padding", "nothing"])
def test_the_last_token_is_found_as_in_transformers(padding: int | None, masked: str | None, tmp_path: Path) -> None:
    """By the padding's id, wherever it stands, end tokens of that id included; -1, which no token has, is none."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    theirs = GPT2ForSequenceClassification(GPT2Config(**SMALL, pad_token_id=padding, num_labels=3)).eval()
    theirs.save_pretrained(tmp_path)
    ours = gs.load(tmp_path)
    ids = torch.tensor([[3, 3, 5, 4, 3, 3], [1, 3, 2, 0, 3, 0], [4, 5, 6, 7, 8, 9], [3, 3, 3, 3, 3, 3]])
    ids = ids[:1] if padding is None else ids
    options = {} if masked is None else {"attention_mask": torch.ones_like(ids)}
    if masked == "padding" and padding is not None:
        options["attention_mask"] = (ids != padding).long()
    rows = slice(0, 3) if masked == "padding" else slice(None)  # a row of nothing sees nothing here, a mean there
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, **options).logits[rows], theirs(ids, **options).logits[rows])
    again = gs.load(gs.save(ours, tmp_path / "again"))
    assert (again.family, again.architecture) == ("gpt2", ours.architecture)
