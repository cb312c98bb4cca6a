"""Costs counted from a description, held to the model itself: its tensors, torch's FLOP counter, live memory."""

import dataclasses
from typing import Any

import pytest
import torch
from drawn import LENGTH, architectures
from hypothesis import given
from hypothesis import strategies as st
from live_bytes import LiveBytes
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gossamer.errors import InputError
from gossamer.inspection import cost
from gossamer.kernels.backends.cpu import backend as cpu_backend
from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Layer,
    MaskedLM,
    Model,
    MultipleChoice,
    Positions,
    PreTraining,
    QuestionAnswering,
    ReplacedToken,
    SequenceClassification,
    TokenClassification,
)
from gossamer.patterns import Fixed, Full, Global, Pattern, PerHead, Strided, Window


def small(
    pattern: Pattern, *, layers: int = 4, length: int = 2048, projections: bool = False, width: int = 256, **fields: Any
) -> Architecture:
    one = Layer(
        attention=Attention(pattern=pattern, heads=4, head_size=16, weights=0, global_projections=projections),
        feed_forward=FeedForward(width=width, weights=0),
    )
    return Architecture(
        hidden_size=64,
        embeddings=Embeddings(vocabulary_size=500, size=64, positions=Positions(length=length)),
        layers=(one,) * layers,
        **fields,
    )


@given(architectures())
def test_parameters_are_those_of_the_model(architecture: Architecture) -> None:
    found = cost(architecture, 3)
    assert found.parameters == sum(one.numel() for one in Model(architecture).parameters())
    assert found.weights == 4 * found.parameters
    assert cost(architecture, 3, dtype=torch.bfloat16).weights == 2 * found.parameters


@given(architectures())
def test_parts_are_the_modules_of_the_model(architecture: Architecture) -> None:
    model = Model(architecture)
    for part in cost(architecture, 3).parts:
        assert part.parameters == sum(one.numel() for one in model.get_submodule(part.name).parameters())


@given(architectures(full=True), st.integers(1, LENGTH), st.integers(0, 3))
def test_flops_are_those_torch_counts(architecture: Architecture, length: int, flagged: int) -> None:
    flagged = min(flagged, length)
    global_mask = torch.arange(length)[None] < flagged
    ids = torch.ones(1, length, dtype=torch.int64)
    if isinstance(architecture.head, MultipleChoice):
        ids, global_mask = ids[:, None], global_mask[:, None]
    # The plain composition of matrix products: the fused CPU kernel has no formula in torch's counter.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        Model(architecture).eval()(ids, global_mask=global_mask)
    assert cost(architecture, length, global_tokens=flagged).flops == counter.get_total_flops()


@given(architectures(), st.integers(1, LENGTH), st.integers(0, 3))
def test_pairs_are_those_of_the_mask(architecture: Architecture, length: int, flagged: int) -> None:
    flagged = min(flagged, length)
    flags = torch.arange(length) < flagged
    expected = 0
    for one in (layer.attention for layer in architecture.layers):
        mask = one.pattern.mask(length, flags=flags)
        heads = 1 if isinstance(one.pattern, PerHead) else one.heads
        expected += 4 * one.head_size * heads * int(mask.sum())
        expected += 4 * one.head_size * one.heads * flagged * length * one.global_projections
    assert cost(architecture, length, global_tokens=flagged).pair_flops == expected


@pytest.mark.parametrize(
    ("architecture", "length", "backend"),
    [
        (small(Full()), 1024, "cpu"),
        (small(Window(32, 32) | Global()), 2048, "cpu"),
        (small(Window(32, 32)), 96, "dense"),
        (small(PerHead((Window(32, 32), 2), (Window(8, 8), 2))), 96, "dense"),
        (small(Window(8, 8) | Window(4, 4, 3)), 256, "reference"),
        (small(Strided(32)), 2048, "cpu"),
        (small(PerHead((Strided(32), 2), (Fixed(16, 2), 2))), 96, "dense"),
        (small(Full(), head=MaskedLM()), 512, "cpu"),
        (small(Full(), layers=1, length=64), 64, "dense"),
        (small(Full(), head=PreTraining()), 512, "cpu"),
        (small(Full(), head=SequenceClassification(labels=("a", "b"))), 512, "cpu"),
        (small(Full(), head=TokenClassification(labels=tuple(map(str, range(900))))), 512, "cpu"),
        (small(Full(), head=QuestionAnswering()), 512, "cpu"),
        (small(Full(), head=ReplacedToken()), 512, "cpu"),
    ],
    ids=[
        *("full", "windowed", "masked", "per-head", "reference", "strided", "strided-and-fixed", "logits", "one-layer"),
        *("pre-training", "classified", "many-labels", "answers", "replaced"),
    ],
)
def test_memory_is_about_what_is_alive(
    monkeypatch: pytest.MonkeyPatch, architecture: Architecture, length: int, backend: str
) -> None:
    if backend == "dense":  # as where the kernel was not compiled; with it, even short texts are its own
        monkeypatch.setattr(cpu_backend, "why_no_library", lambda: "it was not compiled")
    found = cost(architecture, length)
    model, ids = Model(architecture).eval(), torch.ones(1, length, dtype=torch.int64)
    with torch.no_grad(), LiveBytes(model) as live:
        model(ids)
    assert found.backends == (backend,)
    assert found.activations == pytest.approx(live.most, rel=0.15)
    assert found.peak == found.weights + found.activations


def test_memory_with_a_global_token_of_its_own_projections() -> None:
    """A lengthened classifier: its first token is flagged, and every token's key and value are taken once more."""
    head = SequenceClassification(labels=("a", "b"))
    long = small(Window(32, 32) | Global(), projections=True, width=64, head=head)
    model, ids = Model(long).eval(), torch.ones(1, 2048, dtype=torch.int64)
    with torch.no_grad(), LiveBytes(model) as live:
        model(ids)
    assert cost(long, 2048, global_tokens=1).activations == pytest.approx(live.most, rel=0.15)
    assert cost(long, 2048).activations < 0.9 * live.most


def test_memory_of_a_window_grows_linearly_and_flops_too() -> None:
    windowed = small(Window(32, 32), length=2**20)
    once, twice = (cost(windowed, n) for n in (2**15, 2**16))
    assert twice.activations == 2 * once.activations
    assert twice.flops / once.flops == pytest.approx(2, rel=1e-3)
    full = small(Full(), length=2**20)
    assert cost(full, 2**16).pair_flops == 4 * cost(full, 2**15).pair_flops


def test_shared_weights_count_once_and_work_every_time() -> None:
    shared = small(Full(), layers=6)
    layers = [
        dataclasses.replace(
            one,
            attention=dataclasses.replace(one.attention, weights=i),
            feed_forward=dataclasses.replace(one.feed_forward, weights=i),
        )
        for i, one in enumerate(shared.layers)
    ]
    own = dataclasses.replace(shared, layers=tuple(layers))
    assert cost(own, 100).flops == cost(shared, 100).flops
    assert cost(own, 100).parameters > 4 * (cost(shared, 100).parameters - cost(shared, 100).parts[0].parameters)
    assert [part.applications for part in cost(shared, 1).parts] == [1, 6, 6]


@pytest.mark.parametrize(("length", "flagged"), [(0, 0), (-1, 0), (1.5, 0), ("4", 0), (True, 0), (4, 5), (4, -1)])
def test_impossible_questions_are_refused(length: Any, flagged: Any) -> None:
    with pytest.raises(InputError, match="must be"):
        cost(small(Full()), length, global_tokens=flagged)


def test_a_cost_says_all_of_itself() -> None:
    found = cost(small(Full(), pooler=True), 7)
    assert {"length", "parts", "weights", "flops", "peak", "backends"} <= set(found.to_dict())
    assert sum(part["flops"] for part in found.to_dict()["parts"]) == found.flops
