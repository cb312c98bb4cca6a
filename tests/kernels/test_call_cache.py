"""Calls like earlier ones skip checks and torch's dispatch: nothing else about them may differ."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import gossamer as gs
from gossamer.errors import InputError
from gossamer.kernels import call_cache
from gossamer.kernels.backends.cpu import backend as cpu_backend
from gossamer.kernels.torch_state import is_plain_eager


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def definition(q: Tensor, k: Tensor, v: Tensor, pattern: Any, **options: Any) -> Tensor:
    return gs.attend(q, k, v, pattern, backend="reference", **options)


class Seen(TorchDispatchMode):
    """Writes down the names of the operators that go through torch."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    call_cache._PREPARED.clear()


CALLS = {
    "full": (gs.Full(), {}),
    "window": (gs.Window(3, 5), {}),
    "scale": (gs.Window(3, 5), {"scale": 0.5}),
    "scale below 0": (gs.Window(3, 5), {"scale": -0.5}),
    "strided": (gs.Strided(4), {}),
    "per head": (gs.PerHead((gs.Window(1, 1), 1), (gs.Full(causal=True), 1)), {}),
    "no piece at all": (gs.Global(), {}),
    "a head without a piece": (gs.PerHead((gs.Window(3, 3), 1), (gs.Global(), 1)), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_first_and_later_calls_are_the_definition(name: str) -> None:
    pattern, options = CALLS[name]
    for seed in range(3):
        q, k, v = (draw(1, 2, 40, 16, seed=seed + i) for i in (0, 10, 20))
        out, lse = gs.attend(q, k, v, pattern, return_lse=True, **options)
        expected, expected_lse = gs.attend(q, k, v, pattern, return_lse=True, backend="reference", **options)
        torch.testing.assert_close(out, expected, rtol=0, atol=5e-6)
        torch.testing.assert_close(lse, expected_lse, rtol=0, atol=5e-6)


def test_calls_that_differ_in_one_thing_are_told_apart() -> None:
    q, k, v = (draw(2, 2, 40, 16, seed=i) for i in range(3))
    turned = k.transpose(1, 2).contiguous().transpose(1, 2)
    for _ in range(2):
        for pattern in (gs.Full(), gs.Full(causal=True), gs.Window(3, 5), gs.Window(5, 3), gs.Window(3, 5, 2)):
            for options in ({}, {"scale": 0.7}, {"scale": 1}):
                for keys in (k, turned):
                    out = gs.attend(q, keys, v, pattern, **options)
                    torch.testing.assert_close(out, definition(q, k, v, pattern, **options), rtol=0, atol=5e-6)
    half = [x.bfloat16() for x in (q, k, v)]
    assert gs.attend(*half, gs.Full()).dtype == torch.bfloat16
    assert gs.attend(q[:, :1], k[:, :1], v[:, :1], gs.Full()).shape == (2, 1, 40, 16)


def test_options_of_a_later_call_count() -> None:
    q, k, v = (draw(1, 2, 40, 16, seed=i) for i in range(3))
    pattern, real = gs.Window(3, 5), torch.arange(40)[None] < 20
    gs.attend(q, k, v, pattern)
    for options in (
        {"key_mask": real},
        {"segments": torch.arange(40)[None] // 7},
        {"positions": 2 * torch.arange(40)[None]},
        {"bias": draw(1, 1, 40, 40)},
        {"dropout": 0.5, "seed": 3},
        {"query_start": 2},
    ):
        out = gs.attend(q, k, v, pattern, **options)
        torch.testing.assert_close(out, definition(q, k, v, pattern, **options), rtol=0, atol=5e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert gs.attend(q, k, v, pattern).dtype == torch.bfloat16


BAD: dict[str, list[Any]] = {
    "query_start": [False, 0.0, torch.zeros(2), "0"],
    "dropout": [torch.tensor(0.0), "0", None],
    "scale": [[0.3], float("nan"), "1", torch.zeros(2)],
    "backend": [["cpu"], "fast", None],
}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_is_refused_whatever_went_before(name: str, warm: bool) -> None:
    q, k, v = (draw(1, 2, 40, 16, seed=i) for i in range(3))
    for value in BAD[name]:
        if warm:
            gs.attend(q, k, v, gs.Window(3, 5))
        with pytest.raises(InputError, match=f"{name} is "):
            gs.attend(q, k, v, gs.Window(3, 5), **{name: value})


def test_every_call_has_an_output_of_its_own() -> None:
    q, k, v = (draw(1, 2, 40, 16, seed=i) for i in range(3))
    outs = [gs.attend(q, k, x, gs.Full()) for x in (v, v, 2 * v)]
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(2 * outs[0], outs[2])
    assert len({x.data_ptr() for x in outs}) == 3


def test_gradients_are_asked_for_after_a_call_without() -> None:
    q, k, v = (draw(1, 2, 40, 16, seed=i) for i in range(3))
    gs.attend(q, k, v, gs.Window(20, 20), backend="cpu")
    q.requires_grad_()
    assert gs.attend(q, k, v, gs.Window(20, 20), backend="cpu").requires_grad
    with torch.no_grad():
        assert not gs.attend(q, k, v, gs.Window(20, 20), backend="cpu").requires_grad


def test_who_reads_along_sees_the_operator() -> None:
    q, k, v = (draw(1, 2, 40, 16, seed=i) for i in range(3))
    gs.attend(q, k, v, gs.Full(), backend="cpu")
    with Seen() as seen:
        gs.attend(q, k, v, gs.Full(), backend="cpu")
    assert any("gossamer.cpu_attention" in name for name in seen.names)
    with torch.profiler.profile() as profile:
        gs.attend(q, k, v, gs.Full(), backend="cpu")
    assert any("gossamer::cpu_attention" in event.key for event in profile.key_averages())


def test_negated_views_are_read_as_what_they_are() -> None:
    q, k, v = (draw(1, 2, 40, 16, seed=i) for i in range(3))
    negated = torch._neg_view(k)
    assert is_plain_eager(q, k, v)
    assert not is_plain_eager(q, negated, v)
    gs.attend(q, k, v, gs.Full())
    torch.testing.assert_close(gs.attend(q, negated, v, gs.Full()), definition(q, -k, v, gs.Full()), rtol=0, atol=5e-6)
    assert not is_plain_eager(torch._to_functional_tensor(q), k, v)


def test_without_the_kernel_nothing_is_taken_from_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (draw(1, 2, 40, 16, seed=i) for i in range(3))
    expected = gs.attend(q, k, v, gs.Full())
    monkeypatch.setattr(cpu_backend, "why_no_library", lambda: "it was not compiled")
    monkeypatch.setattr("gossamer.kernels.backends.cpu.attention.library", lambda: pytest.fail("the kernel was called"))
    torch.testing.assert_close(gs.attend(q, k, v, gs.Full()), expected, rtol=0, atol=5e-6)


def test_only_so_many_calls_are_remembered() -> None:
    for length in range(1, call_cache.MOST + 20):
        x = torch.zeros(1, 1, length, 2)
        gs.attend(x, x, x, gs.Full())
    assert 0 < len(call_cache._PREPARED) <= call_cache.MOST
