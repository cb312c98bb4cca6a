"""Layers that run over slices of a text compute what they compute over all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gossamer as gs
from gossamer.inspection import summary
from gossamer.models import Model
from gossamer.models.architecture import Architecture
from gossamer.models.decoders import decoder
from gossamer.models.evaluation import reading_whole
from gossamer.recipes.pruning.calibration import _watched
from gossamer.surgery.students.narrow_states import second_moments

PATTERNS = {
    "window": gs.Window(3, 0),
    "both ways": gs.Window(2, 3),
    "dilated": gs.Window(2, 1, 3),
    "sinks": gs.Window(3, 0) | gs.Sink(2),
    "sinks of dilated": gs.Window(2, 0, 2) | gs.Sink(5),
    "chunks": gs.Chunks(4),
    "near chunks": gs.Chunks(3, False, 1, 1),
    "chunks and sinks": gs.Chunks(5) | gs.Sink(3),
    "by head": gs.PerHead((gs.Window(4, 0), 1), (gs.Chunks(3) | gs.Sink(2), 1)),
}


def built(pattern: gs.patterns.Pattern, size: int | None, **changes: Any) -> Model:
    torch.manual_seed(5)
    form = changes.pop("form", "gpt2")
    plain = decoder(
        vocabulary_size=40, length=64, layers=2, hidden_size=12, heads=2, form=form, norm_eps=1e-5,
        shared_query_key=changes.pop("shared_query_key", False),
    )  # fmt: skip
    layers = tuple(replace(one, attention=replace(one.attention, pattern=pattern)) for one in plain.layers)
    place = changes.pop("norm_place", "pre")
    layers = tuple(replace(one, norm_place=place) for one in layers)
    described = replace(plain, layers=layers, head=None, slice_length=size, initializer="normal", **changes)
    model = Model(described).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def answers(model: Model, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """States, and the gradients of all weights, of a random function of real tokens' states."""
    states = model(**batch).last_hidden_state
    real = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
    wanted = states[real]
    random = torch.Generator().manual_seed(2)
    (wanted * torch.randn(wanted.shape, generator=random, dtype=wanted.dtype)).sum().backward()
    return [wanted.detach(), *(one.grad for one in model.parameters() if one.grad is not None)]


@pytest.mark.parametrize("name", PATTERNS)
@given(
    size=st.integers(1, 30), length=st.integers(1, 41), reversible=st.sampled_from(["no", "mean", "concatenated"]),
    packed=st.sampled_from(["no", "together", "apart"]), padded=st.booleans(),
    form=st.sampled_from(["gpt2", "llama", "shared", "post"]),
)  # fmt: skip
def test_slices_change_nothing(
    name: str, size: int, length: int, reversible: str, packed: str, padded: bool, form: str
) -> None:
    random = torch.Generator().manual_seed(length)
    batch = {"input_ids": torch.randint(40, (2, length), generator=random)}
    if packed != "no":
        ids = torch.randint(0, 3, (2, length), generator=random)
        batch["segments"] = ids.sort(1).values if packed == "together" else ids
    if padded:
        batch["attention_mask"] = (torch.rand(2, length, generator=random) < 0.8).long()
        batch["attention_mask"][:, 0] = 1
    changes: dict[str, Any] = {
        "llama": {"form": "llama"}, "shared": {"shared_query_key": True},
        "post": {} if reversible != "no" else {"norm_place": "post"},
    }.get(form, {})  # fmt: skip
    whole, sliced = (
        answers(built(PATTERNS[name], one, reversible=reversible, **dict(changes)), batch) for one in (None, size)
    )
    assert len(whole) == len(sliced)
    for one, other in zip(whole, sliced, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (gs.Full(causal=True), "layers[0].attention.pattern is 'causal full'; it must be one that sees a bounded way"),
        (gs.Strided(4), "it must be one that sees a bounded way"),
        (gs.Hashed(), "it must be one that sees a bounded way"),
    ],
)
def test_what_sees_everything_is_not_cut(pattern: gs.patterns.Pattern, said: str) -> None:
    with pytest.raises(gs.InputError) as problem:
        built(pattern, 8)
    assert said in str(problem.value)


def test_who_looks_at_a_model_sees_it_whole() -> None:
    """Its summary beside full attention; what its maps read, for pruning and for narrow students."""
    model = built(gs.Window(3, 2), 5).float()
    whole = Model(replace(model.architecture, slice_length=None))
    whole.load_state_dict(model.state_dict())
    assert summary(model, lengths=(64,)).full_costs == summary(whole, lengths=(64,)).full_costs
    batch = {"input_ids": torch.randint(40, (2, 23)), "attention_mask": torch.ones(2, 23, dtype=torch.long)}
    batch["attention_mask"][1, 17:] = 0
    torch.testing.assert_close(second_moments(model, batch), second_moments(whole, batch), rtol=1e-5, atol=1e-6)
    maps = {name: one for name, one in model.named_modules() if name.endswith((".query", ".up", ".down"))}
    read = []
    for one in (model, whole):
        sums = {name: torch.zeros(part.in_features, dtype=torch.float32) for name, part in maps.items()}
        there = {name: part for name, part in one.named_modules() if name in maps}
        with reading_whole(one), _watched(there, sums, batch["attention_mask"]), torch.no_grad():
            one(**batch)
        read.append(sums)
    assert read[0].keys() == read[1].keys()
    for name, found in read[0].items():
        torch.testing.assert_close(found, read[1][name], rtol=1e-4, atol=1e-4)
    assert model.architecture.slice_length == 5


def test_a_length_is_one() -> None:
    with pytest.raises(gs.InputError, match="slice_length is 0"):
        built(gs.Window(2, 0), 0)
    described = built(gs.Window(2, 0), 7).architecture
    assert Architecture.from_dict(described.to_dict()) == described
