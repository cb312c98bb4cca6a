"""Reversible residuals: the same outputs and gradients as when everything is kept, and nothing kept."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from kept_bytes import kept_bytes
from torch import Tensor

import gossamer as gs
from gossamer.errors import InputError
from gossamer.inspection import capture
from gossamer.layers import Cut
from gossamer.layers.reversible import Streams
from gossamer.models import Architecture, Cache, DistanceTable, Model, stack
from gossamer.models.decoders import decoder

IDS = torch.randint(0, 50, (2, 24), generator=torch.Generator().manual_seed(0))


def architecture(**changes: Any) -> Architecture:
    made = decoder(
        vocabulary_size=50, length=32, layers=3, hidden_size=16, heads=2, patterns=gs.Window(7, 0), dropout=0.1,
    )  # fmt: skip
    return replace(made, **({"reversible": "mean"} | changes))


def with_attention(made: Architecture, **changes: Any) -> Architecture:
    layers = tuple(replace(one, attention=replace(one.attention, **changes)) for one in made.layers)
    return replace(made, layers=layers)


def shared(made: Architecture) -> Architecture:
    layers = [
        replace(one, attention=replace(one.attention, weights=0), feed_forward=replace(one.feed_forward, weights=0))
        for one in made.layers
    ]
    return replace(made, layers=tuple(layers))


def kept_in_full(
    streams: Streams, part: Callable[[Tensor, Cut], Tensor], reads: Callable[[], Iterable[Tensor]], cuts: None
) -> None:
    """The definition, of which autograd keeps everything."""
    length = streams.source.shape[1]
    whole = Cut(start=0, stop=length, low=0, high=length)
    streams.source, streams.target = streams.target + part(streams.source, whole), streams.source


def learnt(model: Model, seed: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(seed)
    model.zero_grad()
    loss = model(IDS, labels=IDS).loss
    loss.backward()
    return loss.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def idle(made: Architecture, number: int, part: str) -> Architecture:
    """With one part that does nothing."""
    layer = made.layers[number]
    none = {"heads": 0, "output_bias": False} if part == "attention" else {"width": 0, "bias": False}
    layer = replace(layer, **{part: replace(getattr(layer, part), **none)}, norm_place="pre")
    return replace(made, layers=(*made.layers[:number], layer, *made.layers[number + 1 :]))


ARCHITECTURES = {
    "window": architecture(),
    "hashed": with_attention(architecture(), pattern=gs.Hashed(rounds=2, buckets=4, chunk=4)),
    "shared layers": shared(architecture()),
    "distances": with_attention(architecture(), distance_bias=DistanceTable(before=4, after=0, weights=0)),
    "no feed-forward in the middle": idle(architecture(), 1, "feed_forward"),
    "no feed-forward at the end": idle(architecture(), 2, "feed_forward"),
    "no attention at first": idle(architecture(), 0, "attention"),
    "no attention, twice": idle(idle(architecture(), 0, "attention"), 1, "attention"),
    "rotary": replace(decoder(
        vocabulary_size=50, length=32, layers=2, hidden_size=16, heads=2, form="llama", dropout=0.1
    ), reversible="mean"),
    "concatenated": replace(decoder(
        vocabulary_size=50, length=32, layers=2, hidden_size=16, heads=2, tied=False
    ), reversible="concatenated", final_norm=None),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_states_that_are_kept(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = Model(ARCHITECTURES[name]).to(dtype).train()
    loss, gradients = learnt(model)
    monkeypatch.setattr(stack, "add_reversibly", kept_in_full)
    wanted_loss, wanted = learnt(model)
    assert torch.equal(loss, wanted_loss)
    assert gradients.keys() == wanted.keys()
    # Of all together: that of a key's bias is nothing but rounding.
    largest = max(float(one.norm()) for one in wanted.values())
    for parameter, gradient in gradients.items():
        error = float((gradient - wanted[parameter]).norm()) / largest
        assert error < (1e-13 if dtype == torch.float64 else 1e-5), parameter


def test_nothing_more_is_kept_for_more_layers() -> None:
    def kept(layers: int, reversible: str) -> int:
        made = decoder(vocabulary_size=50, length=32, layers=layers, hidden_size=16, heads=2)
        model = Model(replace(made, reversible=reversible))
        return kept_bytes(lambda: model(IDS, labels=IDS).loss, model)

    assert kept(8, "mean") == kept(2, "mean")
    assert kept(8, "no") > 2 * kept(2, "no")


def test_no_tensor_outlives_its_step() -> None:
    model = Model(architecture())

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(one), Tensor) for one in gc.get_objects())

    counts = []
    for _ in range(4):
        model(IDS, labels=IDS).loss.backward()
        model.zero_grad()
        model(IDS)
        counts.append(tensors())
    assert len(set(counts[1:])) == 1


def test_a_loss_of_earlier_states(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(architecture()).double().eval()

    def gradients() -> list[Tensor | None]:
        states = model(IDS, output_hidden_states=True).hidden_states
        return list(torch.autograd.grad(states[1].square().sum(), list(model.parameters()), allow_unused=True))

    found = gradients()
    monkeypatch.setattr(stack, "add_reversibly", kept_in_full)
    for one, other in zip(found, gradients(), strict=True):
        zero = next(x for x in (one, other, torch.zeros(())) if x is not None).new_zeros(())
        torch.testing.assert_close(*(zero.expand_as(y) if x is None else x for x, y in ((one, other), (other, one))))


def test_other_weights_in_the_backward_pass_are_refused() -> None:
    model = Model(architecture())
    weights = {name: one.detach().clone().requires_grad_() for name, one in model.named_parameters()}
    loss = torch.func.functional_call(model, weights, (IDS,), {"labels": IDS}).loss
    with pytest.raises(InputError, match="were exchanged"):
        loss.backward()


def test_attention_is_not_captured_to_learn_from() -> None:
    model = Model(architecture())
    with pytest.raises(InputError, match="are reversible"), capture(model, learns=True):
        pass
    with capture(model) as found:
        model(IDS, labels=IDS).loss.backward()
        assert found.rows(1, [3]).shape[-1] == IDS.shape[1]


def test_without_gradients_it_reads_the_same() -> None:
    model = Model(architecture()).eval()
    with torch.no_grad():
        plain = model(IDS).logits
    torch.testing.assert_close(model(IDS).logits, plain)


def test_a_part_that_does_nothing_is_the_part_with_zeros() -> None:
    made = architecture()
    without = replace(made.layers[1], feed_forward=replace(made.layers[1].feed_forward, width=0, bias=False))
    model = Model(replace(made, layers=(made.layers[0], without, made.layers[2]))).eval()
    whole = Model(made).eval()
    state = whole.state_dict()
    for name in [one for one in state if one.startswith("feed_forward.1.")]:
        state[name] = torch.zeros_like(state[name])
    whole.load_state_dict(state)
    model.load_state_dict({name: one for name, one in state.items() if name in model.state_dict()})
    torch.testing.assert_close(model(IDS).logits, whole(IDS).logits)


def test_generation_with_a_cache_is_reading() -> None:
    model = Model(architecture()).eval()
    cache = Cache(model.architecture)
    with torch.no_grad():
        parts = [model(IDS[:, at : at + 5], cache=cache).logits for at in range(0, 24, 5)]
        torch.testing.assert_close(torch.cat(parts, 1), model(IDS).logits)


def test_a_second_backward_pass_is_refused() -> None:
    model = Model(architecture())
    loss = model(IDS, labels=IDS).loss
    loss.backward(retain_graph=True)
    with pytest.raises(InputError, match="run it once"):
        loss.backward()


def test_autocast_is_the_same_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(architecture()).train()

    def read() -> dict[str, Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(IDS, labels=IDS).loss
        loss.backward()
        return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    found = read()
    monkeypatch.setattr(stack, "add_reversibly", kept_in_full)
    wanted = read()
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() <= 0.02 * wanted[name].norm().clamp(min=1e-6), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": tuple(replace(one, norm_place="post") for one in architecture().layers)}, "norm_place"),
        ({"layers": tuple(replace(one, recompute="both") for one in architecture().layers)}, "recompute"),
        ({"reversible": "concatenated"}, "head.tied"),
        ({"reversible": True}, "reversible is True"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        architecture(**change)


def test_it_is_read_back() -> None:
    made = architecture()
    assert Architecture.from_dict(made.to_dict()) == made
