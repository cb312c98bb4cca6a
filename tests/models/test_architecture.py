"""The description: it refuses what cannot be, and says which field and why."""

import dataclasses
import json
from typing import Any

import pytest
import torch
from model_inputs import architecture

from gossamer.errors import InputError
from gossamer.models import Architecture, CausalLM, MaskedLM, Model, Norm, Rotary, SentenceEmbedding, differences
from gossamer.patterns import Full, PerHead, Window


def change(part: str, **values: Any) -> Architecture:
    one = architecture()
    if part == "":
        return dataclasses.replace(one, **values)
    if part == "embeddings":
        return dataclasses.replace(one, embeddings=dataclasses.replace(one.embeddings, **values))
    if part == "positions":
        return change("embeddings", positions=dataclasses.replace(one.embeddings.positions, **values))
    first = one.layers[0]
    inner = {} if part == "layer" else {part: dataclasses.replace(getattr(first, part), **values)}
    layer = dataclasses.replace(first, **(values if part == "layer" else inner))
    return dataclasses.replace(one, layers=(layer, *one.layers[1:]))


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("", {"hidden_size": 0}, "hidden_size is 0"),
        ("", {"hidden_size": 8.0}, "hidden_size is 8.0"),
        ("", {"layers": ()}, "number of layers is 0"),
        ("", {"pooler": 1}, "pooler is 1"),
        ("", {"initializer_range": -0.1}, "initializer_range is -0.1"),
        ("embeddings", {"size": 4}, "embeddings.size is 4"),
        ("embeddings", {"padding_id": 30}, "from 0 to 29"),
        ("embeddings", {"padding_id": True}, "padding_id is True"),
        ("embeddings", {"norm": 1e-5}, "norm is 1e-05; it must be a Norm, such as Norm(eps=1e-12), or None"),
        ("embeddings", {"dropout": 1}, "dropout is 1"),
        ("positions", {"from_padding": True}, "at least 1 with from_padding"),
        ("positions", {"scheme": "rotary"}, "'learned'"),
        ("attention", {"pattern": "full"}, "pattern is 'full'"),
        ("attention", {"pattern": PerHead((Full(), 3))}, "heads of the pattern is 3"),
        ("attention", {"heads": 2**24, "head_size": 2**24}, "heads * head_size"),
        ("attention", {"weights": 2}, "without gaps"),
        ("attention", {"weights": -1}, "weights is -1"),
        ("feed_forward", {"activation": "tanh"}, "'gelu_tanh'"),
        ("feed_forward", {"width": True}, "width is True"),
        (
            "layer",
            {"norm_place": "before"},
            "norm_place is 'before'; it must be one of 'post', 'pre', 'both', 'none', or",
        ),
        ("layer", {"norm_place": ("pre", "post", "pre")}, "or a pair of them: attention's, feed-forward's"),
        ("layer", {"norm_place": ("pre", 1)}, "norm_place is ('pre', 1)"),
        ("layer", {"norm_place": []}, "norm_place is []"),
        ("feed_forward", {"dropout": 1.0}, "dropout is 1.0"),
        ("layer", {"norm": None}, "norm is None; it must be a Norm, such as Norm(eps=1e-12)"),
    ],
)
def test_impossible_values_are_refused(part: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        change(part, **values)
    assert said in str(caught.value)


def test_decoders_see_no_later_token() -> None:
    one = change("positions", offset=1)
    assert one.embeddings.padding_id is not None
    causal = tuple(
        dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, pattern=Window(3, 0)))
        for layer in one.layers
    )
    fine = dataclasses.replace(one, layers=causal, pooler=False, head=CausalLM())
    flagged = dataclasses.replace(causal[0].attention, global_projections=True)
    first = dataclasses.replace(causal[0], attention=flagged)
    with pytest.raises(InputError, match=r"^layers\[0\].attention.global_projections is True; it must be false with"):
        dataclasses.replace(fine, layers=(first, *causal[1:]))
    counted = dataclasses.replace(one.embeddings.positions, from_padding=True)
    with pytest.raises(InputError, match=r"^embeddings.positions.from_padding is True; it must be false with the head"):
        dataclasses.replace(fine, embeddings=dataclasses.replace(one.embeddings, positions=counted))


def test_shared_weights_must_have_one_shape() -> None:
    one = architecture(sets=(0, 0))
    narrow = dataclasses.replace(one.layers[1], attention=dataclasses.replace(one.layers[1].attention, heads=1))
    with pytest.raises(InputError, match=r"layers\[1\].attention shares weight set 0"):
        dataclasses.replace(one, layers=(one.layers[0], narrow))


@pytest.mark.parametrize("head", [None, MaskedLM(tied=False), SentenceEmbedding(pooling="max", normalized=True)])
@pytest.mark.parametrize("long", [False, True])
def test_dictionary_reads_back_equal(head: Any, long: bool) -> None:
    one = architecture(head=head, long=long, dropout=0.25)
    assert Architecture.from_dict(one.to_dict()) == one
    assert hash(Architecture.from_dict(one.to_dict())) == hash(one)


@pytest.mark.parametrize("place", ["both", "none", ("none", "pre"), ("post", "both")])
def test_places_of_norms_are_written_and_read(place: Any) -> None:
    one = change("layer", norm_place=place)
    assert Architecture.from_dict(one.to_dict()) == one
    assert Architecture.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert one.layers[0].norm_places == (place if isinstance(place, tuple) else (place, place))


def test_a_pair_of_equal_places_is_that_place() -> None:
    assert change("layer", norm_place=("pre", "pre")) == change("layer", norm_place="pre")


def test_shared_weights_have_as_many_norms() -> None:
    one = architecture(sets=(0, 0))
    with pytest.raises(InputError, match=r"layers\[1\].feed_forward shares weight set 0"):
        dataclasses.replace(one, layers=(one.layers[0], dataclasses.replace(one.layers[1], norm_place=("pre", "both"))))
    # The same norm may stand before a part here, and after the sum there.
    dataclasses.replace(one, layers=(one.layers[0], dataclasses.replace(one.layers[1], norm_place="pre")))


def test_differences_name_every_field() -> None:
    assert differences(architecture(), architecture()) == []
    other = change("attention", pattern=Window(1, 1), dropout=0.5)
    paths = [line.split(":")[0] for line in differences(architecture(), other)]
    assert paths == ["layers.0.attention.pattern", "layers.0.attention.dropout"]
    shorter = dataclasses.replace(architecture(), layers=architecture().layers[:1])
    assert any("absent" in line for line in differences(architecture(), shorter))


def described_before(architecture: Architecture) -> dict[str, Any]:
    """As versions wrote it whose norms were an eps and a place."""
    fields = architecture.to_dict()
    for layer in fields["layers"]:
        layer["norm_eps"], layer["norm"] = layer["norm"]["eps"], layer.pop("norm_place")
        for part, names in (("attention", NEW_OF_ATTENTION), ("feed_forward", ("gated", "bias", "dropout"))):
            layer[part] = {name: value for name, value in layer[part].items() if name not in names}
    embeddings, final = fields["embeddings"], fields.pop("final_norm")
    norm = embeddings.pop("norm")
    embeddings |= {"norm": norm is not None, "norm_eps": 1e-12 if norm is None else norm["eps"]}
    return {**fields, "final_norm_eps": final and final["eps"]}


NEW_OF_ATTENTION = ("key_heads", "bias", "output_bias", "query_key_norm", "rotary")


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("norm", [Norm(), Norm(eps=1e-3), None])
def test_descriptions_of_before_are_read(norm: Norm | None, place: str) -> None:
    one = change("embeddings", norm=norm)
    layers = tuple(dataclasses.replace(layer, norm=Norm(eps=1e-4), norm_place=place) for layer in one.layers)
    one = dataclasses.replace(one, layers=layers, final_norm=norm)
    before = described_before(one)
    assert "norm_place" not in str(before)
    assert Architecture.from_dict(before) == one
    without = {name: value for name, value in before.items() if name != "final_norm_eps"}
    assert Architecture.from_dict(without) == dataclasses.replace(one, final_norm=None)
    both = {**before, "embeddings": one.to_dict()["embeddings"] | {"norm": {"eps": 1e-3}, "norm_eps": 1.0}}
    with pytest.raises(InputError, match=r"embeddings has unknown fields \['norm_eps'\]"):
        Architecture.from_dict(both)


RMS = Norm(kind="rms", bias=False, eps=1e-6, offset=1.0)


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        ("attention", {"key_heads": 3}, "key_heads is 3; it must be a divisor of heads, 2"),
        ("attention", {"key_heads": True}, "key_heads is True"),
        ("attention", {"bias": 1}, "bias is 1"),
        ("attention", {"rotary": 10.0}, "rotary is 10.0; it must be a Rotary, or None"),
        ("attention", {"rotary": Rotary(share=0.25)}, "rotary.share is 0.25; it must be a share of head_size, 4"),
        ("attention", {"rotary": Rotary(), "global_projections": True}, "global_projections is True"),
        ("attention", {"query_key_norm": "rms"}, "query_key_norm is 'rms'"),
        ("feed_forward", {"gated": "yes"}, "gated is 'yes'"),
        ("positions", {"scheme": "none", "offset": 1}, "offset is 1; it must be 0 without a table"),
        ("layer", {"norm": RMS}, None),
        ("attention", {"query_key_norm": RMS, "rotary": Rotary(base=7.0, share=0.5), "key_heads": 1}, None),
        ("feed_forward", {"gated": True, "bias": False}, None),
        (
            "positions",
            {"scheme": "none"},
            "length is 40; it must be 0 without a table of positions: Architecture.length",
        ),
        ("positions", {"scheme": "sinusoidal"}, "length is 40; it must be 0 without a table of positions"),
        ("positions", {"scheme": "axes"}, "axes is ()"),
        ("positions", {"length": 0}, "length is 0"),
        ("positions", {"scheme": "none", "length": 0}, None),
        ("positions", {"scheme": "sinusoidal", "length": 0}, None),
        ("positions", {"scheme": "axes", "length": 0, "axes": (5, 9)}, None),
    ],
)
def test_bricks_are_checked_and_read_back(part: str, values: dict[str, Any], said: str | None) -> None:
    if said is None:
        one = change(part, **values)
        assert Architecture.from_dict(one.to_dict()) == one
        return
    with pytest.raises(InputError) as caught:
        change(part, **values)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "batch"}, "kind is 'batch'; it must be one of 'layer', 'rms'"),
        ({"kind": "rms"}, "bias is True; it must be false with kind 'rms'"),
        ({"offset": 1.0}, "offset is 1.0; it must be 0 with kind 'layer'"),
        ({"eps": 0}, "eps is 0"),
    ],
)
def test_norms_are_checked(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        Norm(**values)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("part", "values"), [("positions", {"scheme": "none", "length": 0}), ("attention", {"key_heads": 1})]
)
def test_mimetic_weights_want_a_table_and_as_many_keys_as_queries(part: str, values: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="with the initializer 'mimetic'"):
        dataclasses.replace(change(part, **values), initializer="mimetic")


def test_a_model_is_as_long_as_its_table_unless_it_says_so() -> None:
    one = change("positions", length=50)
    assert one.length == 40
    assert dataclasses.replace(one, length=0) == dataclasses.replace(one, length=50)
    assert dataclasses.replace(one, length=0).length == 50
    with pytest.raises(InputError, match="length is 51; it must be at most 50, the positions of its table"):
        dataclasses.replace(one, length=51)
    without = change("positions", scheme="none", length=0)
    assert dataclasses.replace(without, length=10**6).length == 10**6
    with pytest.raises(InputError, match="length is 0; it must be"):
        dataclasses.replace(without, length=0)


@pytest.mark.parametrize(
    "values",
    [{}, {"scheme": "none", "length": 0}, {"scheme": "axes", "length": 0, "axes": (5, 8)}],
    ids=["learned", "none", "axes"],
)
def test_lengths_of_before_are_read(values: dict[str, Any]) -> None:
    """The embeddings' positions said how much a model reads, whether they had a table or none."""
    one = change("positions", **values)
    fields = one.to_dict()
    assert fields.pop("length") == 40
    fields["embeddings"]["positions"] |= {"length": 40}
    assert Architecture.from_dict(fields) == one


def test_positions_are_refused_by_what_there_is_to_run_out_of() -> None:
    for values, most, said in (
        ({}, 40, "position_ids holds 40 .*the position table's rows"),
        ({"scheme": "none", "length": 0}, 30, "position_ids holds 30 .*the model's positions"),
    ):
        model = Model(dataclasses.replace(change("positions", **values), length=30, head=None))
        ids, positions = torch.ones(1, 2, dtype=torch.long), torch.tensor([[0, most]])
        model(ids, position_ids=positions - torch.tensor([[0, 1]]))
        with pytest.raises(InputError, match=said):
            model(ids, position_ids=positions)
        with pytest.raises(InputError, match="31 tokens long, the model reads 30"):
            model(torch.ones(1, 31, dtype=torch.long))
