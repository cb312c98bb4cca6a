"""What recipes measure and say of a model before and after: probe texts, states, differences."""

import copy
import dataclasses
import math

import pytest
import torch
from drawn_models import BYTES, bert, byte_model, models
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models import Model
from gossamer.recipes.states import changed_dropout, compare_states, probe, read_states, relative_difference
from gossamer.text import speeches


@given(models(), st.integers(1, 64))
def test_without_a_tokenizer_the_probe_is_the_same_random_ids_and_no_padding(model: Model, length: int) -> None:
    ids, name = probe(model, length)
    sizes = model.architecture.embeddings
    assert ids.shape == (1, length)
    assert ids.min() >= 0
    assert ids.max() < sizes.vocabulary_size
    assert not bool((ids == sizes.padding_id).any())
    assert name == "random token ids, seed 0"
    assert torch.equal(ids, probe(model, length)[0])


def test_a_tokenizer_reads_the_first_speech_that_is_long_enough() -> None:
    model = byte_model()
    speech = next(one for one in speeches() if len(one.text) >= 900)
    ids, name = probe(model, 900)
    assert ids.shape == (1, 900)
    assert bytes(ids[0, :200].tolist()) in speech.text.encode()
    assert name == f"{speech.speaker}'s address of {speech.year}"


def test_a_text_longer_than_any_speech_is_random() -> None:
    longest = max(len(one.text.encode()) for one in speeches())
    assert probe(byte_model(), longest + 100)[1] == "random token ids, seed 0"


@given(models(dtype=torch.float32), st.booleans())
def test_states_are_read_without_dropout_in_float64_and_the_mode_is_kept(model: Model, training: bool) -> None:
    ids, _ = probe(model, 5)
    expected = model.eval()(ids).last_hidden_state.double()
    model.train(training)
    states = read_states(model, ids)
    assert torch.equal(states, expected)
    assert model.training is training


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0]), 0.0),
        (torch.zeros(2), torch.zeros(2), 0.0),
        (torch.tensor([3.0, 4.0]), torch.tensor([3.0, 9.0]), 1.0),
        (torch.zeros(2), torch.ones(2), math.inf),
    ],
)
def test_the_difference_is_relative_to_what_was_before(before: Tensor, after: Tensor, expected: float) -> None:
    assert relative_difference(before, after) == pytest.approx(expected)


def test_two_models_are_compared_over_each_length_once() -> None:
    old = bert(BYTES, None)
    new = copy.deepcopy(old)
    with torch.no_grad():
        new.embeddings.position.weight[10:].neg_()
    measured, read = compare_states(old, new, (5, 20, 20), "changing")
    assert list(measured) == ["relative_difference_at_5_tokens", "relative_difference_at_20_tokens"]
    assert measured["relative_difference_at_5_tokens"] == 0
    assert measured["relative_difference_at_20_tokens"] > 0.01
    assert read == {"text": "random token ids, seed 0", "global_tokens": "none"}


def test_unsound_weights_are_refused_in_the_recipe_s_words() -> None:
    old = bert(BYTES, None)
    with torch.no_grad():
        old.embeddings.word.weight.fill_(math.nan)
    with pytest.raises(InputError, match="NaN or infinity; go back to sound weights before pruning it"):
        compare_states(old, old, (5,), "pruning")


def test_rates_that_changed_are_told_once_for_all_layers() -> None:
    old = bert(BYTES, None).architecture
    layers = tuple(
        dataclasses.replace(one, attention=dataclasses.replace(one.attention, residual_dropout=0.25))
        for one in old.layers
    )
    new = dataclasses.replace(old, layers=layers, initializer_range=0.5)
    assert changed_dropout(old, new) == ("while training: layers.attention.residual_dropout: 0.1 became 0.25",)
    assert changed_dropout(old, old) == ()
