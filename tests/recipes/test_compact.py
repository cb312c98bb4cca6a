"""What is zero goes and the outputs stay: drawn architectures, every family, what `transformers` reads of it."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cut_models import HEADS, NEURONS, OF, close, drawn, ids, same_for_all, states, zeroed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

import gossamer as gs
from gossamer.errors import InputError
from gossamer.layers import LowRank
from gossamer.models import Model
from gossamer.patterns import PerHead, Window
from gossamer.recipes.removal import remove
from gossamer.surgery.rebuild import rebuild
from gossamer.surgery.storages import store
from gossamer.surgery.students import Widths, make_student


def module(model: Model, name: str) -> nn.Linear:
    return model.get_submodule(name)  # type: ignore[return-value]


@pytest.mark.parametrize("family", OF)
def test_what_is_zero_goes(family: str, tmp_path: Path) -> None:
    model = drawn(family)
    heads, neurons = same_for_all(family, HEADS), same_for_all(family, NEURONS)
    masked = zeroed(model, heads, neurons)
    before = copy.deepcopy(masked.state_dict())
    smaller, receipt = gs.compact(masked)
    more = {"global_mask": torch.arange(9).expand(2, -1) < 2} if family == "longformer" else {}
    close(states(smaller, **more), states(masked, **more))
    assert all(torch.equal(before[name], one) for name, one in masked.state_dict().items())
    layers = smaller.architecture.layers
    assert receipt.after["heads"] == [layer.attention.heads for layer in layers]
    assert receipt.after["neurons"] == [12 - len(neurons.get(i, [])) for i in range(3)]
    assert receipt.after["parameters"] == sum(one.numel() for one in smaller.parameters())
    assert receipt.measured["relative_difference_at_128_tokens"] < 1e-12
    again = gs.load(gs.save(smaller, tmp_path / "smaller"), dtype="float64")
    close(states(again, **more), states(masked, **more), 1e-6)
    same, told = gs.compact(again)
    assert same.architecture == again.architecture
    assert told.changes == ("nothing was zero as a whole: the model is as it was",)


def silence(model: Model, layer: int, part: str, places: list[int], *, biases: bool = True, rows: bool = True) -> None:
    """Rows of a map at zero with their biases, or its columns."""
    linear = module(model, part.format(layer))
    with torch.no_grad():
        if not rows:
            linear.weight[:, places] = 0
            return
        linear.weight[places] = 0
        if biases and linear.bias is not None:
            linear.bias[places] = 0


def of_head(head: int, columns: list[int], size: int = 4) -> list[int]:
    return [head * size + column for column in columns]


def test_values_of_zero_are_a_head_that_gives_nothing() -> None:
    """A bias of the values would be something: attention weights add up to 1."""
    for biases, heads in ((True, 3), (False, 4)):
        model = drawn("bert")
        silence(model, 0, "attention.{}.value", of_head(1, [0, 1, 2, 3]), biases=biases)
        smaller, _ = gs.compact(model)
        assert smaller.architecture.layers[0].attention.heads == heads
        close(states(smaller), states(model))


def test_columns_inside_heads_go_as_far_as_in_the_head_that_needs_most() -> None:
    """Of queries or keys, in one head others than in another; the scores are divided as before."""
    model = drawn("bert")
    for head in range(4):
        silence(model, 0, "attention.{}.query" if head % 2 else "attention.{}.key", of_head(head, [head]))
        silence(model, 0, "attention.{}.value", of_head(head, [3 - head, 3][: 1 + head % 2]))
    silence(model, 2, "attention.{}.query", of_head(0, [1]))
    smaller, _ = gs.compact(model)
    assert [layer.attention.head_size for layer in smaller.architecture.layers] == [3, 4, 4]
    close(states(smaller), states(model))
    kept = drawn("llama")
    for head in range(4):
        silence(kept, 0, "attention.{}.query", of_head(head, [1]))
        silence(kept, 0, "attention.{}.value", of_head(head % 2, [1]))
    assert gs.compact(kept)[0].architecture == kept.architecture
    # Heads of three columns, by what computes them in float32.
    close(states(smaller.float()), states(model.float()), 1e-5)
    close(states(gs.compact(kept)[0]), states(kept), 1e-15)


def test_columns_of_longformer_go_where_both_its_projections_agree() -> None:
    model = drawn("longformer")
    local, both = ("attention.{}.query",), ("attention.{}.query", "attention.{}.key_global")
    for layer, parts in ((0, local), (1, both)):
        for part in parts:
            silence(model, layer, part, [head * 4 + 2 for head in range(4)])
        for part in ("attention.{}.value", "attention.{}.value_global"):
            silence(model, layer, part, [head * 4 + 1 for head in range(4)])
    silence(model, 2, "attention.{}.value", of_head(0, [0, 1, 2, 3]))
    smaller, _ = gs.compact(model)
    assert [(one.attention.heads, one.attention.head_size) for one in smaller.architecture.layers] == [
        (4, 4), (4, 3), (4, 4),
    ]  # fmt: skip
    flags = torch.arange(9).expand(2, -1) < 2
    close(states(smaller, global_mask=flags), states(model, global_mask=flags))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu", "quick_gelu"])
def test_what_a_neuron_gives_every_token_becomes_a_bias(activation: str) -> None:
    model = drawn("bert", hidden_act=activation)
    silence(model, 0, "feed_forward.{}.up", [1, 5], biases=False)
    silence(model, 1, "feed_forward.{}.up", list(range(12)), biases=False)
    silence(model, 2, "feed_forward.{}.up", [3])
    smaller, _ = gs.compact(model)
    assert [layer.feed_forward.width for layer in smaller.architecture.layers] == [10, 0, 11]
    close(states(smaller), states(model))


def test_a_gate_of_zero_silences_its_neuron() -> None:
    model = drawn("llama", mlp_bias=True)
    silence(model, 0, "feed_forward.{}.gate", [0])
    silence(model, 0, "feed_forward.{}.gate", [1], biases=False)
    silence(model, 0, "feed_forward.{}.up", [2])
    silence(model, 0, "feed_forward.{}.up", [3], biases=False)
    for part in ("gate", "up"):
        silence(model, 0, f"feed_forward.{{}}.{part}", [4], biases=False)
    silence(model, 0, "feed_forward.{}.down", [5], rows=False)
    smaller, _ = gs.compact(model)
    left = smaller.state_dict()["feed_forward.0.up.bias"]
    assert torch.equal(left, model.state_dict()["feed_forward.0.up.bias"][[1, 3, *range(6, 12)]])
    close(states(smaller), states(model))


@pytest.mark.parametrize(("family", "left"), [("gpt2", 2), ("llama", 2), ("bert", 3)])
def test_a_layer_that_does_nothing_goes(family: str, left: int) -> None:
    """Where norms stand after the sum, they are something."""
    model = zeroed(drawn(family), {1: [0, 1, 2, 3]}, {1: list(range(12))})
    with torch.no_grad():
        for name in ("attention.1.output", "feed_forward.1.down"):
            if module(model, name).bias is not None:
                module(model, name).bias.zero_()
    smaller, receipt = gs.compact(model)
    assert len(smaller.architecture.layers) == left
    close(states(smaller), states(model))
    said = "layers without heads and neurons stay for their norms: 1" if left == 3 else "layers: 2 of 3 stay"
    assert said in receipt.changes


def test_what_is_left_of_a_part_goes_through_its_second_norm() -> None:
    """Gemma's places: a norm of what is read, one of what is given."""
    model = drawn("bert", num_hidden_layers=1)
    both = replace(model.architecture, layers=(replace(model.architecture.layers[0], norm_place="both"),))
    more = {f"{part}.0.output_norm.{name}": torch.randn(16).double() for part in ("attention", "feed_forward")
            for name in ("weight", "bias")}  # fmt: skip
    model = zeroed(rebuild(model, both, more, source=str), {0: [0, 1, 2, 3]}, {0: list(range(12))})
    smaller, _ = gs.compact(model)
    assert [name for name in smaller.state_dict() if "norm" in name and "embeddings" not in name] == []
    close(states(smaller), states(model))


@pytest.mark.parametrize(
    ("left", "family"),
    [
        *(("some", family) for family in OF),
        *(("two-heads", family) for family in ("bert", "modernbert")),
        *(("nothing", family) for family in ("bert", "gpt2", "llama")),
    ],
)
def test_transformers_reads_what_was_padded(left: str, family: str, tmp_path: Path) -> None:
    """Layers of several widths, one without heads, one without neurons; two heads of each; or nothing at all.

    Two heads of three columns become two of eight, where the format wants heads as wide as the states together.
    """
    model = drawn(family)
    heads, neurons = same_for_all(family, HEADS), same_for_all(family, NEURONS)
    if left != "some":
        heads = {i: [0, 1] if left == "two-heads" else [0, 1, 2, 3] for i in range(3)}
    if left == "nothing":
        neurons = {i: list(range(12)) for i in range(3)}
    masked = zeroed(model, heads, neurons)
    for i in range(len(masked.attention)):
        # Fewer columns in all heads, too.
        silence(masked, i, "attention.{}.query", [head * 4 for head in range(4)])
        silence(masked, i, "attention.{}.value", [head * 4 for head in range(2 if family == "llama" else 4)])
    smaller, _ = gs.compact(masked)
    assert smaller.family == "gossamer"
    padded, receipt = gs.compact(smaller, padded=True)
    assert padded.family == family
    more = {"global_mask": torch.arange(9).expand(2, -1) < 2} if family == "longformer" else {}
    close(states(padded, **more), states(masked, **more))
    assert "model_type_of_even_widths" not in padded.extra_config
    padded.float()
    gs.save(padded, tmp_path / "padded")
    theirs = AutoModel.from_pretrained(tmp_path / "padded").eval()
    flags = {"global_attention_mask": more["global_mask"].long()} if more else {}
    with torch.no_grad():
        found = theirs(ids(), **flags).last_hidden_state
    close(found.double(), states(masked, **more), 1e-5)
    assert "padded with zeros to one width for all layers" in receipt.changes[-1]
    assert not any(line.startswith(("nothing was zero", f"format {family}:")) for line in receipt.changes)


@pytest.mark.parametrize(
    ("family", "kind"),
    [("gpt2", AutoModelForCausalLM), ("llama", AutoModelForCausalLM), ("bert", AutoModelForMaskedLM)],
)
def test_heads_and_uniform_widths_need_no_padding(family: str, kind: Any, tmp_path: Path) -> None:
    """As many neurons less in every layer; of Llama's heads too, whose format says how wide they are."""
    head = "masked-lm" if family == "bert" else "causal-lm"
    neurons = {i: [i, 7] for i in range(3)}
    heads = {i: [0, 1] for i in range(3)} if family == "llama" else {}
    masked = zeroed(drawn(family, head, torch.float32), heads, neurons)
    smaller, receipt = gs.compact(masked)
    assert smaller.family == family
    padded, told = gs.compact(masked, padded=True)
    assert padded.architecture == smaller.architecture
    assert told.changes == (*receipt.changes, f"nothing was padded: {family}'s format holds the model as it is")
    theirs = kind.from_pretrained(gs.save(smaller, tmp_path / "smaller")).eval()
    with torch.no_grad():
        close(theirs(ids()).logits, masked(ids()).logits, 1e-5)


def test_a_compact_decoder_writes_the_same() -> None:
    model = zeroed(drawn("llama", "causal-lm", torch.float32, initializer_range=0.3), HEADS, NEURONS)
    smaller, _ = gs.compact(model)
    told = [gs.generate(one, ids(2, 5), max_new_tokens=10, temperature=0).ids for one in (model, smaller)]
    assert told[0] == told[1]
    theirs, _ = gs.compact(smaller, padded=True)
    assert gs.generate(theirs, ids(2, 5), max_new_tokens=10, temperature=0).ids == told[0]


def test_single_zeros_stay_and_bring_no_speed() -> None:
    model = drawn("bert")
    with torch.no_grad():
        module(model, "feed_forward.0.up").weight[:, ::2] = 0
    smaller, receipt = gs.compact(model)
    assert smaller.architecture == model.architecture
    maps = 3 * (4 * 16 * 16 + 2 * 12 * 16)
    assert receipt.notes[0].startswith(f"96 single weights of {maps:,} in the layers are 0 among others: they bring no")
    assert receipt.measured["share_of_zeros_left"] == 96 / maps
    assert receipt.changes == ("nothing was zero as a whole: the model is as it was",)
    assert all(torch.equal(one, smaller.state_dict()[name]) for name, one in model.state_dict().items())
    assert "heads" not in str(receipt)


def test_weights_in_parts_become_whole() -> None:
    parted = store(drawn("bert"), ["attention.0.query"], LowRank(rank=1))
    smaller, receipt = gs.compact(parted)
    assert not smaller.architecture.storages
    assert smaller.family == "bert"
    assert "weights that were kept in parts (low-rank) became whole" in receipt.changes
    close(states(smaller), states(parted))


def test_what_no_public_format_has_is_one_line() -> None:
    model = drawn("bert")
    groups = PerHead((Window(1, 1), 2), (Window(2, 2), 2))
    layers = tuple(replace(one, attention=replace(one.attention, pattern=groups)) for one in model.architecture.layers)
    model = rebuild(model, replace(model.architecture, layers=layers), {}, source=str)
    with pytest.raises(
        InputError, match=r"^layer 0 has patterns for each head, which no public format has; leave padd"
    ):
        gs.compact(model, padded=True)
    shorter = zeroed(drawn("modernbert"), {0: [0]}, {})
    gone = remove(shorter, layers=[0], heads={1: [2]})
    with pytest.raises(InputError, match=r"^padded is True, and no format of transformers holds this model: layers.0"):
        gs.compact(gone, padded=True)
    with pytest.raises(InputError, match=r"^padded is 1; it must be true or false$"):
        gs.compact(model, padded=1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^model is 5, no model"):
        gs.compact(5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^measure is "):
        gs.compact(model, measure={"speed": True})


def test_a_model_by_its_name_is_compared_with_what_it_was(tmp_path: Path) -> None:
    masked = zeroed(drawn("bert", None, torch.float32), {0: [1]}, {1: [0]})
    quick = {"latency": False, "memory": False}
    small, receipt = gs.compact(gs.save(masked, tmp_path / "masked"), measure=quick)
    assert receipt.comparison is not None
    assert receipt.comparison.models == ("before", "after")
    assert "parameters" in str(receipt.comparison)
    assert small.architecture.layers[0].attention.heads == 3


@settings(max_examples=settings.default.max_examples // 8)
@given(st.data())
def test_drawn_models_give_what_they_gave(data: st.DataObject) -> None:
    """Any heads, columns and neurons at zero, of any families' layers."""
    draw: Callable[..., Any] = data.draw
    family = draw(st.sampled_from([name for name in OF if name != "albert"]))
    model = drawn(family)
    chosen = st.lists(st.integers(0, 3), unique=True)
    heads = {i: draw(chosen) for i in range(3)}
    neurons = {i: draw(st.lists(st.integers(0, 11), unique=True)) for i in range(3)}
    masked = zeroed(model, heads, neurons)
    for name in draw(st.lists(st.sampled_from(["query", "key", "value"]))):
        rows = model.state_dict()[f"attention.0.{name}.weight"].shape[0]
        silence(masked, draw(st.integers(0, 2)), f"attention.{{}}.{name}", draw(st.lists(st.integers(0, rows - 1))))
    for name in draw(st.lists(st.sampled_from(["up", "gate"] if family in ("llama", "modernbert") else ["up"]))):
        rows_list = draw(st.lists(st.integers(0, 11)))
        silence(masked, draw(st.integers(0, 2)), f"feed_forward.{{}}.{name}", rows_list, biases=draw(st.booleans()))
    smaller, _ = gs.compact(masked)
    close(states(smaller), states(masked))
    close(states(gs.compact(smaller, padded=True)[0]), states(masked))


def test_a_student_of_a_layer_without_heads_has_none_there_either() -> None:
    smaller, _ = gs.compact(zeroed(drawn("bert"), {0: [0, 1, 2, 3]}, {}))
    student = make_student(smaller, [0, 1], widths=Widths(heads=1))
    assert [layer.attention.heads for layer in student.architecture.layers] == [0, 1]
