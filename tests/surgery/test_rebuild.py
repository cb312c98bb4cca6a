"""A model built anew: which format holds it, and what of the old one goes along."""

import dataclasses

import torch
from drawn_models import byte_model, models
from hypothesis import given
from hypothesis import strategies as st

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.models.architecture import Architecture
from gossamer.surgery.rebuild import fit, rebuild, why_own_format
from gossamer.surgery.students.student import make_student

BERT = get_family("bert")


def with_rates(architecture: Architecture, rates: list[float]) -> Architecture:
    layers = tuple(
        dataclasses.replace(one, attention=dataclasses.replace(one.attention, residual_dropout=rate))
        for one, rate in zip(architecture.layers, rates, strict=True)
    )
    return dataclasses.replace(architecture, layers=layers)


@given(models(), st.data())
def test_what_changes_no_output_is_fitted_to_the_format(model: Model, data: st.DataObject) -> None:
    rates = st.lists(st.sampled_from([0.0, 0.1, 0.4]), min_size=3, max_size=3)
    uneven = with_rates(model.architecture, data.draw(rates)[: len(model.architecture.layers)])
    fitted, obstacles = fit(uneven, BERT)
    assert obstacles == []
    assert BERT.expresses(fitted)
    assert dataclasses.replace(fitted, layers=uneven.layers, head=uneven.head) == uneven


@given(models())
def test_where_the_format_cannot_hold_it_nothing_is_changed(model: Model) -> None:
    uneven = with_rates(model.architecture, [0.4] * len(model.architecture.layers))
    fitted, obstacles = fit(uneven, get_family("longformer"))
    assert fitted is uneven
    assert obstacles
    (line,) = why_own_format("gossamer", "Longformer", obstacles)
    assert line.startswith("format gossamer; Longformer's cannot hold this model: ")


def test_obstacles_are_told_two_at_most_and_once_for_all_layers() -> None:
    assert why_own_format("gossamer", "BERT", []) == ()
    obstacles = ["layers.0.a: 1 != 2", "layers.1.a: 1 != 2", "b: 3 != 4", "c: 5 != 6", "d: 7 != 8"]
    expected = "format gossamer; BERT's cannot hold this model: layers.a: 1 != 2; b: 3 != 4; and 2 more"
    assert why_own_format("gossamer", "BERT", obstacles) == (expected,)


@given(models(), st.booleans())
def test_a_rebuilt_model_has_copies_of_the_old_weights_and_the_new_ones(model: Model, training: bool) -> None:
    table = torch.randn_like(model.embeddings.position.weight)
    old = {name: weight.clone() for name, weight in model.train(training).state_dict().items()}
    new = rebuild(model, model.architecture, {"embeddings.position.weight": table}, source=str)
    assert new.training is training
    for name, weight in new.state_dict().items():
        assert torch.equal(weight, table if name == "embeddings.position.weight" else old[name])
    with torch.no_grad():
        for weight in new.parameters():
            weight.zero_()
    assert all(torch.equal(weight, old[name]) for name, weight in model.state_dict().items())


@given(models())
def test_weights_that_the_old_model_has_not_are_copies_of_their_source(model: Model) -> None:
    layers = tuple(
        dataclasses.replace(one, attention=dataclasses.replace(one.attention, global_projections=True))
        for one in model.architecture.layers
    )
    new = rebuild(
        model, dataclasses.replace(model.architecture, layers=layers), {}, lambda name: name.replace("_global", "")
    )
    for old, own in zip(model.attention, new.attention, strict=True):
        for one, other in ((own.query_global, old.query), (own.key_global, old.key), (own.value_global, old.value)):
            assert torch.equal(one.weight, other.weight)
            assert one.weight is not other.weight


def test_what_is_known_of_the_old_model_goes_along() -> None:
    model = byte_model()
    model.extra_config, model.generation_config = {"sep_token_id": [3]}, {"max_length": 7}
    model.source, model.card, model.notes = "somewhere", {"license": "mit"}, ["read with care"]
    positions = dataclasses.replace(model.architecture.embeddings.positions, length=64)
    embeddings = dataclasses.replace(model.architecture.embeddings, positions=positions)
    longer = dataclasses.replace(model.architecture, embeddings=embeddings, length=64)
    new = rebuild(model, longer, {"embeddings.position.weight": torch.zeros(64, 8)}, source=str)
    assert (new.extra_config, new.generation_config) == (model.extra_config, model.generation_config)
    assert (new.source, new.card, new.notes) == (model.source, model.card, model.notes)
    assert new.tokenizer.max_length == 64
    new.extra_config["sep_token_id"].append(4)
    new.notes.append("more")
    assert model.extra_config == {"sep_token_id": [3]}
    assert model.notes == ["read with care"]


def test_the_limit_of_the_tokenizer_stays_unless_the_length_changes() -> None:
    model = gs.load("sample:minilm")
    assert model.tokenizer is not None
    model.tokenizer = model.tokenizer.with_max_length(100)
    assert make_student(model).reading_length() == 100
    assert gs.lengthen(model, to=1024, window=64)[0].reading_length() == 1024
