"""The description: it refuses what cannot be, and says which field and why."""

import dataclasses
from typing import Any

import pytest
from model_inputs import architecture

from gossamer.errors import InputError
from gossamer.models import Architecture, CausalLM, MaskedLM, SentenceEmbedding, differences
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
        ("embeddings", {"norm_eps": 0.0}, "norm_eps is 0.0"),
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
        ("layer", {"norm": "both"}, "'post'"),
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


def test_differences_name_every_field() -> None:
    assert differences(architecture(), architecture()) == []
    other = change("attention", pattern=Window(1, 1), dropout=0.5)
    paths = [line.split(":")[0] for line in differences(architecture(), other)]
    assert paths == ["layers.0.attention.pattern", "layers.0.attention.dropout"]
    shorter = dataclasses.replace(architecture(), layers=architecture().layers[:1])
    assert any("absent" in line for line in differences(architecture(), shorter))
