"""What every brick says that it keeps, against every tensor that autograd keeps of a real forward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from kept_bytes import kept_bytes
from step_cases import HEADS, Case, batch
from torch import Tensor

from gossamer.kernels import backends
from gossamer.layers import LowRank, SequenceSplit
from gossamer.models import Architecture, DistanceTable, Model, Norm, RelativePositions, Rotary, StoredMaps
from gossamer.patterns import Full, Global, Window
from gossamer.training.estimate.memory import peak_memory
from gossamer.training.estimate.saved import parts_of, trained_model

RMS = Norm(kind="rms", bias=False, eps=1e-6)


def with_attention(architecture: Architecture, **fields: Any) -> Architecture:
    layers = tuple(replace(one, attention=replace(one.attention, **fields)) for one in architecture.layers)
    return replace(architecture, layers=layers)


def with_feed_forward(architecture: Architecture, **fields: Any) -> Architecture:
    layers = tuple(replace(one, feed_forward=replace(one.feed_forward, **fields)) for one in architecture.layers)
    return replace(architecture, layers=layers)


def saved_bytes(
    architecture: Architecture,
    case: Case,
    is_trained: Callable[[str], bool] = lambda name: True,
    head_mask: Tensor | None = None,
    split: SequenceSplit | None = None,
) -> int:
    """Of one forward pass, weights left out, each storage once."""
    model = Model(architecture).train()
    model.split = split
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name))
    context = nullcontext() if case.autocast is None else torch.autocast("cpu", dtype=getattr(torch, case.autocast))

    def forward() -> Tensor:
        with context:
            loss: Tensor = model(**batch(case), head_mask=head_mask).loss
        return loss

    return kept_bytes(forward, model)


def told_bytes(architecture: Architecture, case: Case, is_trained: Callable[[str], bool], switched: bool) -> int:
    names = [name for name, _ in Model(architecture).named_parameters() if is_trained(name)]
    model = trained_model(architecture, case.step, names)
    return sum(part.kept for part in parts_of(architecture, case.step, model=model, switched=switched))


def check(
    architecture: Architecture,
    case: Case,
    is_trained: Callable[[str], bool] = lambda name: True,
    head_mask: Tensor | None = None,
) -> None:
    told = told_bytes(architecture, case, is_trained, head_mask is not None)
    # Scalars, biases in autocast's dtype and such are not told.
    assert saved_bytes(architecture, case, is_trained, head_mask) == pytest.approx(told, rel=0.005)


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(pattern="full"),
        Case(pattern="strided", dropout=0.1),
        Case(pattern="fixed", activation="relu", tied=False),
        Case(activation="gelu_sigmoid"),
        Case(pattern="around"),
        Case(pattern="around", dropout=0.1, activation="gelu"),
        Case(pattern="around", tied=False, shared=True, layers=3),
        Case(autocast="bfloat16"),
        Case(pattern="strided", autocast="bfloat16", dropout=0.1),
        Case(autocast="bfloat16", shared=True, layers=3),
        Case(pattern="around", autocast="bfloat16"),
        Case(llama=True, activation="silu"),
        Case(llama=True, pattern="full", activation="silu", dropout=0.1),
        Case(llama=True, activation="relu", tied=False),
        Case(llama=True, activation="gelu_sigmoid", pattern="around"),
        Case(llama=True, activation="silu", autocast="bfloat16", dropout=0.1),
        Case(llama=True, activation="gelu", autocast="bfloat16", shared=True, layers=3),
        Case(norm_place="both", dropout=0.1),
        Case(norm_place="both", dropout=0.1, autocast="bfloat16"),
        Case(norm_place="both", llama=True, activation="silu", autocast="bfloat16"),
        Case(norm_place="none", pattern="around", dropout=0.1),
        Case(norm_place=("none", "pre"), autocast="bfloat16", layers=1),
        Case(norm_place=("post", "none"), pattern="around", layers=3),
        Case(llama=True, activation="gelu", inner_dropout=0.1),
        Case(inner_dropout=0.1, autocast="bfloat16"),
        Case(pattern="modernbert", layers=4),
        Case(pattern="modernbert", layers=4, dropout=0.1, tied=False),
        Case(pattern="modernbert", layers=4, dropout=0.1, autocast="bfloat16"),
        Case(pattern="modernbert", layers=4, recompute="attention"),
        Case(pattern="modernbert", layers=4, head="several-classes", padded=True),
        *(Case(pattern="around", head=name) for name in HEADS),
        *(Case(pattern="around", head=name, autocast="bfloat16", dropout=0.1) for name in HEADS),
        *(Case(pattern="around", head=name, padded=True) for name in HEADS),
    ],
    ids=str,
)
def test_whole_models_keep_what_their_modules_say(case: Case) -> None:
    check(case.architecture, case)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("rotary", [None, Rotary(), Rotary(share=0.5)], ids=["unturned", "turned", "half-turned"])
@pytest.mark.parametrize("norm", [Norm(), RMS], ids=["layer", "rms"])
def test_normalised_queries_and_keys(norm: Norm, rotary: Rotary | None, autocast: str | None) -> None:
    case = Case(autocast=autocast)
    check(with_attention(case.architecture, query_key_norm=norm, rotary=rotary), case)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("pattern", ["window", "around"])
def test_each_brick_alone(pattern: str, autocast: str | None) -> None:
    case = Case(pattern=pattern, autocast=autocast)
    plain = case.architecture
    for architecture in (
        with_attention(plain, key_heads=1),
        with_attention(plain, key_heads=2, rotary=Rotary()),
        with_feed_forward(plain, gated=True, activation="silu"),
        replace(plain, layers=tuple(replace(one, norm=RMS) for one in plain.layers)),
    ):
        check(architecture, case)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("backend", ["dense", "cpu", "reference"])
@pytest.mark.parametrize("key_heads", [None, 2])
@pytest.mark.parametrize("recompute", ["nothing", "attention"])
def test_tables_by_distance(
    backend: str, key_heads: int | None, recompute: str, autocast: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropout = 0.1 if backend == "reference" else 0.0
    case = Case(autocast=autocast, dropout=dropout, length=200, recompute=recompute)
    table = DistanceTable(before=20, after=0, weights=0)
    architecture = with_attention(case.architecture, distance_bias=table, key_heads=key_heads)
    if backend != "cpu":
        away = [replace(one, why_not=lambda inputs: "away") for one in (backends.BLOCKED, backends.CPU)]
        monkeypatch.setattr(backends, "_OPERATORS", (backends.REFERENCE, backends.DENSE, *away))
    sections = parts_of(architecture, case.step, model=trained_model(architecture, case.step, []))
    assert backend in set().union(*(section.backends for section in sections))
    check(architecture, case)
    if recompute == "nothing":
        check(architecture, case, lambda name: name != "distance_bias.0.weight")


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
def test_switched_heads(autocast: str | None) -> None:
    case = Case(pattern="around", autocast=autocast)
    check(case.architecture, case, head_mask=torch.ones(case.heads))


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("norm_place", ["post", "pre", "both"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_parts_without_heads_or_neurons(dropout: float, norm_place: str, autocast: str | None) -> None:
    case = Case(pattern="around", norm_place=norm_place, dropout=dropout, autocast=autocast)
    check(with_attention(case.architecture, heads=0), case)
    check(with_feed_forward(case.architecture, width=0), case)
    check(with_feed_forward(with_attention(case.architecture, heads=0, output_bias=False), width=0, bias=False), case)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("recompute", ["attention", "feed_forward", "both"])
@pytest.mark.parametrize("pattern", ["window", "around"])
def test_what_is_computed_again(pattern: str, recompute: str, autocast: str | None) -> None:
    case = Case(pattern=pattern, recompute=recompute, autocast=autocast, dropout=0.1)
    check(case.architecture, case)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize(("chunk", "slice_length"), [(None, None), (250, None), (None, 170), (50, 170)])
@pytest.mark.parametrize("reversible", ["no", "mean"])
def test_reversible_layers_chunks_and_slices(
    reversible: str, chunk: int | None, slice_length: int | None, autocast: str | None
) -> None:
    case = Case(reversible=reversible, chunk=chunk, slice_length=slice_length, autocast=autocast, dropout=0.1, layers=3)
    # The last two streams are kept besides, by the layers, not by autograd.
    streams = 2 * 4 * case.rows * case.length * case.hidden if reversible == "mean" else 0
    found = saved_bytes(case.architecture, case, lambda name: True, None) + streams
    assert found == pytest.approx(told_bytes(case.architecture, case, lambda name: True, False), rel=0.005)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("slice_length", [None, 170])
@pytest.mark.parametrize("form", [{}, {"llama": True}, {"recompute": "both"}, {"reversible": "mean"}], ids=str)
def test_a_share_of_split_sequences(form: dict[str, Any], slice_length: int | None, autocast: str | None) -> None:
    """What the neighbour sends is empty here, and as large."""
    case = Case(length=1200, slice_length=slice_length, autocast=autocast, dropout=0.1, layers=3, **form)
    step = replace(case.step, processes=2)
    streams = 2 * 4 * case.rows * step.share * case.hidden if case.reversible == "mean" else 0
    told = sum(part.kept for part in parts_of(case.architecture, step))
    with patch.object(SequenceSplit, "_exchange"):
        found = saved_bytes(case.architecture, case, split=SequenceSplit(rank=1, count=2)) + streams
    assert found == pytest.approx(told, rel=0.005)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("projections", [False, True])
@pytest.mark.parametrize(("head", "padded"), [("classes", False), ("classes", True), ("tags", True)])
def test_tokens_that_a_head_makes_global(
    head: str, padded: bool, projections: bool, dropout: float, autocast: str | None
) -> None:
    case = Case(pattern="around", head=head, autocast=autocast, dropout=dropout, padded=padded)
    pattern = Window(64, 64) | Global()
    check(with_attention(case.architecture, pattern=pattern, global_projections=projections), case)


FROZEN: dict[str, Callable[[str], bool]] = {
    "head-alone": lambda name: name.startswith("head."),
    "last-layer": lambda name: ".1." in name,
    "first-layer": lambda name: ".0." in name,
    "biases": lambda name: name.endswith(".bias"),
    "norms": lambda name: "norm" in name,
    "one-map": lambda name: name == "attention.1.query.weight",
    "positions": lambda name: name == "embeddings.position.weight",
}


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("part", FROZEN)
def test_frozen_parts_keep_no_more_than_the_trained_ones_need(part: str, autocast: str | None) -> None:
    case = Case(pattern="around", tied=False, autocast=autocast)
    check(case.architecture, case, FROZEN[part])


def test_less_is_trained_less_is_kept() -> None:
    case = Case(pattern="around", tied=False)
    names = [name for name, _ in Model(case.architecture).named_parameters()]
    memory = {
        part: peak_memory(case.architecture, case.step, case.settings, trainable=[*filter(is_trained, names)]).peak
        for part, is_trained in FROZEN.items()
    }
    whole = peak_memory(case.architecture, case.step, case.settings).peak
    assert memory["head-alone"] < memory["last-layer"] < memory["first-layer"] < whole


def test_rotations_are_kept_once_for_all_layers() -> None:
    case = Case(layers=3)
    plain, turned = case.architecture, with_attention(case.architecture, rotary=Rotary(share=0.5))
    everything = (case, lambda name: True)
    columns = case.hidden // case.heads // 2
    expected = case.length * columns * 4
    assert told_bytes(turned, *everything, False) - told_bytes(plain, *everything, False) == expected
    assert saved_bytes(turned, *everything, None) - saved_bytes(plain, *everything, None) == expected


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("trained", ["low_rank", ""], ids=["additions", "all"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_low_rank_additions_and_what_stands_beside_them(trained: str, autocast: str | None, dropout: float) -> None:
    case = Case(pattern="around", autocast=autocast)
    maps = ("attention.0.query", "attention.1.value", "feed_forward.1.up")
    stored = StoredMaps(maps=maps, storage=LowRank(rank=8, scale=2.0, dropout=dropout))
    architecture = replace(case.architecture, storages=(stored,))
    frozen = {f"{name}.{part}" for name in maps for part in ("weight", "bias")}
    check(architecture, case, lambda name: trained in name and name not in frozen)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["dense", "reference"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "relative",
    [
        RelativePositions(span=64, weights=0),
        RelativePositions(span=64, farthest=200, weights=0, own_maps=True),
        RelativePositions(span=16, weights=0, terms=("position-to-content",), norm=None),
    ],
    ids=["shared", "own", "one-term"],
)
def test_states_of_distances(relative: RelativePositions, padded: bool, dropout: float, autocast: str | None) -> None:
    case = Case(autocast=autocast, dropout=dropout, length=200, padded=padded, head="tags", pattern="around")
    relative = replace(relative, dropout=dropout)
    check(with_attention(case.architecture, pattern=Full(), distance_bias=relative), case)


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_embeddings_with_a_norm_behind_their_map(dropout: float, autocast: str | None) -> None:
    case = Case(pattern="around", autocast=autocast, dropout=dropout)
    plain = case.architecture
    narrow = replace(plain.embeddings, size=16, projection=True, norms_states=True)
    check(replace(plain, embeddings=narrow), case)
