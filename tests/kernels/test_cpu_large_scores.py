"""Scores up to float32's largest in the compiled kernel: output, log-sum-exp and gradients are the reference's.

Queries hold ones and zeros, so that every score is exact and all error is the kernel's own.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from cpu_cases import GRADIENT, OUTPUT, SETS
from kernel_cases import Call, poisoned, random_call, relative_error, run
from torch import Tensor

from gossamer import Fixed, Full, Global, Strided, Window, attend
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library
from gossamer.patterns import Pattern

LARGEST = torch.finfo(torch.float32).max
LENGTH = 130


@pytest.fixture(params=SETS, autouse=True)
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs on each instruction set."""
    opened = library._open(request.param)
    monkeypatch.setattr(cpu_attention, "library", lambda: opened)
    return request.param


def one_number(pattern: Pattern, keys: Tensor, sign: float = 1.0, seed: int = 0) -> Call:
    """Scores are the keys' first numbers, times a sign; the second query number and the second key number are free."""
    flags = torch.arange(len(keys)).expand(2, -1) % 50 == 7
    call = random_call(pattern, len(keys), size=2, seed=seed, global_mask=flags).with_options(scale=1.0)
    q, k = torch.zeros_like(call.q), torch.zeros_like(call.k)
    q[..., 0], k[..., 0] = sign, keys.double()
    return replace(call, q=q, k=k)


def compare(call: Call, dtype: torch.dtype = torch.float32, output: float = OUTPUT, gradient: float = GRADIENT) -> None:
    """Each gradient is measured by what its sums add up: where one key takes all, the wanted one is their rounding.

    What comes back is small, so that products of it and the largest numbers are numbers. No gradient comes back to a
    log-sum-exp where float64, too, has no digits left for the number of keys.
    """
    call = replace(call, grad_out=call.grad_out * 2**-10, grad_lse=call.grad_lse * 2**-10)  # type: ignore[operator]
    if (call.q @ call.k.mT).abs().max() * abs(call.options["scale"]) > 2**40:
        call = replace(call, grad_lse=None)
    call = call.to(dtype)
    wanted = run(call.to(torch.float64), "reference")
    with poisoned():
        found = run(call, "cpu")
    assert wanted.lse is not None
    assert found.lse is not None
    assert relative_error(found.out, wanted.out) <= output
    fits = wanted.lse.abs() <= LARGEST
    assert ((found.lse - wanted.lse).abs() <= output * wanted.lse.abs())[fits].all()
    assert torch.equal(found.lse.isneginf(), wanted.lse.isneginf())
    scale = abs(call.options["scale"])
    if scale < 1e-30:
        return  # gradients below float32's normal numbers are 0
    sizes = [call.k.abs().max().item() * scale, call.q.abs().max().item() * scale, 1.0]
    for ours, theirs, size in zip(found.grads, wanted.grads, sizes, strict=True):
        ours, theirs = ours.double() / (size or 1), theirs / (size or 1)
        assert (ours - theirs).abs().max() <= gradient * max(20 * 2**-10, theirs.abs().max().item())


PATTERNS: list[Pattern] = [
    Full(),
    Full(causal=True),
    Window(20, 9),
    Window(5, 2, 3),
    Window(10, 5) | Global(),
    Strided(9),
    Fixed(16, 3),
    Window(9, 4) | Fixed(16, 3),
]


def steps(start: float, step: float, seed: int = 1) -> Tensor:
    """Four scores near each other, drawn."""
    draws = torch.randint(0, 4, (LENGTH,), generator=torch.Generator().manual_seed(seed))
    return (start - step * draws).float()


KEYS = {
    "a digit apart": steps(2.0**24, 2.0),
    "half a digit's rounding": steps(1.5 * 2.0**23, 1.0),
    "beyond 32 bits": steps(3.1e9, 3.1e9),
    "negative": -steps(3.1e9, 256.0),
    "all alike": torch.full((LENGTH,), 3.1e9),
    "all alike and odd": torch.full((LENGTH,), 123456789.0),
    "up and down": torch.linspace(-1e12, 1e12, LENGTH),
    "down": torch.linspace(1e30, -1e30, LENGTH),
    "the largest": steps(LARGEST, LARGEST / 4),
    "the largest, alike": torch.full((LENGTH,), LARGEST),
    "the least": torch.full((LENGTH,), -LARGEST),
    "from the least to the largest": torch.linspace(-LARGEST, LARGEST, LENGTH, dtype=torch.float64).float(),
}


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("name", KEYS)
def test_scores_of_any_size(name: str, pattern: Pattern) -> None:
    for sign in (1.0, -1.0):
        compare(one_number(pattern, KEYS[name], sign))


def test_two_keys() -> None:
    q, v = torch.ones(1, 1, 2, 1), torch.tensor([1.0, 2.0]).view(1, 1, 2, 1)
    for far in (3.1e9, 2.0**31, 2.0**32 + 512, 1e20, LARGEST):
        k = torch.tensor([0.0, far]).view(1, 1, 2, 1)
        assert attend(q, k, v, Full(), backend="cpu").flatten().tolist() == [2, 2]
        assert attend(-q, k, v, Full(), backend="cpu").flatten().tolist() == [1, 1]


@pytest.mark.parametrize("scale", [1e-30, 2e-39, 1e9, -1e9, 12345.678, -1e30, 1.7e38, 3.4e38])
def test_scales(scale: float) -> None:
    """As of biases of -1e9, and down to where the scale times log2(e) leaves float32's normal numbers."""
    for pattern in (Full(), Window(20, 9) | Global(), Window(9, 4) | Fixed(16, 3)):
        for keys in (steps(0.75, 0.25), steps(-0.5, 1.0), torch.zeros(LENGTH)):
            call = one_number(pattern, keys if abs(scale) > 1 else keys * 1e30)
            compare(call.with_options(scale=scale))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_half_precision(pattern: Pattern, dtype: torch.dtype) -> None:
    keys = torch.where(torch.arange(LENGTH) % 3 == 0, 60000.0, torch.where(torch.arange(LENGTH) % 3 == 1, 59968.0, 5.0))
    call = one_number(pattern, keys)
    q = call.q.clone()
    q[..., 0] = 60000.0
    digit = torch.finfo(dtype).eps
    compare(replace(call, q=q), dtype, digit, digit)
    if dtype == torch.bfloat16:
        compare(one_number(pattern, steps(3.1e9, 2.0**25)), dtype, digit, digit)
        compare(one_number(pattern, steps(3e38, 1e38)), dtype, digit, digit)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_equal_scores_of_unlike_keys(pattern: Pattern) -> None:
    """Gradients of queries that are large themselves, to a relative error."""
    call = one_number(pattern, KEYS["all alike"])
    k = call.k.clone()
    odd = torch.arange(LENGTH) % 2 == 1
    k[:, :, odd] = k[:, :, odd].flip(-1)
    call = replace(call, q=torch.ones_like(call.q), k=k, grad_lse=None).to(torch.float32)
    wanted, found = run(call.to(torch.float64), "reference"), run(call, "cpu")
    assert relative_error(found.out, wanted.out) <= OUTPUT
    for ours, theirs in zip(found.grads, wanted.grads, strict=True):
        assert relative_error(ours, theirs) <= GRADIENT


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_dropout_and_gradients_of_the_log_sum_exp(pattern: Pattern) -> None:
    compare(one_number(pattern, KEYS["a digit apart"]).with_options(dropout=0.3, seed=5))


def test_gradients_take_all_digits_where_the_log_sum_exp_has_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the bound the float32 log-sum-exp serves; from it on the row sums do, or weights would not add up."""
    below, above = (one_number(Full(), steps(at, 1.0)) for at in (1000.0, 1100.0))
    calls = []
    attended = cpu_attention._attend
    monkeypatch.setattr(cpu_attention, "_attend", lambda *a, **k: calls.append(k["exact"]) or attended(*a, **k))
    for call in (below, above):
        run(call.to(torch.float32), "cpu")
    assert calls == [False, False, True]
