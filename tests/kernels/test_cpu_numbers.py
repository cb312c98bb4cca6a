"""How exact the compiled kernel is, in every instruction set: long texts, ramps, constants, junk and nothing at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cpu_cases import GRADIENT, OUTPUT, SETS, compare
from kernel_cases import Call, assert_same, poisoned, random_call, relative_error, run
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gossamer import Full, Global, PerHead, Window
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.visible import visible
from gossamer.patterns import Pattern

PATTERNS: list[Pattern] = [
    Full(),
    Full(causal=True),
    Window(10, 5),
    Window(90, 90),
    Window(5, 2, 3),
    Window(10, 5) | Global(),
    PerHead((Window(40, 1) | Global(), 1), (Window(3, 3, 2), 1)),
]


@pytest.fixture(params=SETS, autouse=True)
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs on each instruction set."""
    opened = library._open(request.param)
    monkeypatch.setattr(cpu_attention, "library", lambda: opened)
    return request.param


def test_errors_do_not_grow_with_the_text() -> None:
    """Sums over 16,384 keys, and over as many queries, err no more than short ones."""
    for queries, keys in ((60, 16_384), (16_384, 60)):
        compare(random_call(Full(), queries, keys, batch=1, heads=1, size=64, seed=queries))


def ramp(call: Call, steps: Tensor, most: int) -> Call:
    """Scores that depend on the key alone, from 0 to `most`, without any rounding: all error is the kernel's own."""
    keys, size = call.k.shape[2:]
    k = (steps * most / keys / size)[:, None].expand(call.k.shape)
    return replace(call, q=torch.ones_like(call.q), k=k.contiguous()).with_options(scale=1.0)


STEPS = {
    "rising": torch.arange(512),  # the maximum changes in each block
    "falling": torch.arange(512).flip(0),
    "saw": torch.arange(512) * 37 % 512,
}


@pytest.mark.parametrize("pattern", [Full(), Window(200, 150)], ids=str)
@pytest.mark.parametrize("steps", STEPS)
def test_ramps(steps: str, pattern: Pattern) -> None:
    for most in (8, 64):
        compare(ramp(random_call(pattern, 512, batch=1, heads=1, size=64), STEPS[steps], most))


@pytest.mark.parametrize("steps", STEPS)
def test_steep_ramps(steps: str, instructions: str) -> None:
    """Where scores reach 1,024 their logarithm's last float32 digit is 2^-14, which gradients cannot better.

    Without a fused multiply-add the product with the scale is rounded as far as that too.
    """
    unit = 1024 * 2.0**-24
    output = unit if instructions == "baseline" else OUTPUT
    for pattern in (Full(causal=True), Window(200, 150)):
        compare(ramp(random_call(pattern, 512, batch=1, heads=1, size=32), STEPS[steps], 1024), output, unit)


@pytest.mark.parametrize("pattern", [Full(), Window(200, 150), Window(5, 5, 4)], ids=str)
def test_constant_rows(pattern: Pattern) -> None:
    call = random_call(pattern, 512, batch=1, heads=1, size=64)
    compare(replace(call, q=torch.full_like(call.q, 2.0), k=torch.full_like(call.k, 0.5)))
    compare(replace(call, k=torch.full_like(call.k, -3.0)))
    call = replace(call.to(torch.float32), grad_lse=None)
    found = run(replace(call, v=torch.full_like(call.v, 3.0)), "cpu")
    assert (found.out - 3).abs().max() <= 3 * OUTPUT
    # No weight changes a mean of threes: but for rounding, q and k have no gradients.
    others = run(call, "cpu").grads
    assert all(found.grads[i].norm() <= 1e-5 * others[i].norm() for i in (0, 1))


@pytest.mark.parametrize("scale", [0.0, -0.3, 1e-30, 1.0])
def test_scales(scale: float) -> None:
    for pattern in (Full(), Window(30, 20)):
        compare(random_call(pattern, 200, size=8).with_options(scale=scale))


@pytest.mark.parametrize("factor", [1e-18, 1e18])
def test_values_of_any_size(factor: float) -> None:
    """Numbers whose squares leave float32 are told apart one gradient from the other."""
    call = random_call(Window(30, 20), 200, size=16)
    for one in (
        replace(call, v=call.v * factor, grad_lse=None),
        replace(call, q=call.q / factor, k=call.k * factor),
        replace(call, grad_out=call.grad_out * factor, grad_lse=call.grad_lse * factor),  # type: ignore[operator]
    ):
        one = one.to(torch.float32)
        found, wanted = run(one, "cpu"), run(one.to(torch.float64), "reference")
        assert relative_error(found.out, wanted.out) <= OUTPUT
        for ours, theirs in zip(found.grads, wanted.grads, strict=True):
            assert relative_error(ours / theirs.abs().max(), theirs / theirs.abs().max()) <= GRADIENT


def as_it_is(call: Call) -> Call:
    return call


def ramped(call: Call) -> Call:
    size, keys = call.q.shape[3], call.k.shape[2]
    rise = torch.linspace(-12, 12, keys, dtype=torch.float64)[:, None] / size**0.5
    return replace(call, q=call.q * 0.1 + 1, k=call.k * 0.1 + rise)


def steep(call: Call) -> Call:
    return replace(call, q=call.q * 6)


def constant(call: Call) -> Call:
    return replace(call, q=torch.full_like(call.q, 2.0), k=torch.full_like(call.k, 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("change", [as_it_is, ramped, steep, constant])
@pytest.mark.parametrize("pattern", [Full(causal=True), Window(100, 60)], ids=str)
def test_half_precision_is_no_worse_than_torch(pattern: Pattern, change: Any, dtype: torch.dtype) -> None:
    """Against float64 given the same rounded inputs; torch is given the pattern as a mask."""
    call = replace(change(random_call(pattern, 300, batch=1, size=64)).to(dtype), grad_lse=None)
    wanted, ours = run(call.to(torch.float64), "reference"), run(call, "cpu")
    mask = visible(make_inputs(call.q, call.k, call.v, pattern))
    q, k, v = (x.detach().requires_grad_() for x in (call.q, call.k, call.v))
    out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    theirs = torch.cat([x.flatten() for x in torch.autograd.grad(out, (q, k, v), call.grad_out)])
    assert relative_error(ours.out, wanted.out) <= 1.05 * relative_error(out.detach(), wanted.out)
    assert relative_error(ours.gradient, wanted.gradient) <= 1.05 * relative_error(theirs, wanted.gradient)


def flagged(pattern: Pattern, length: int, **options: Any) -> Call:
    return random_call(pattern, length, global_mask=torch.arange(length).expand(2, -1) % 50 == 7, **options)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_every_length(pattern: Pattern) -> None:
    for length in range(1, 301):
        compare(flagged(pattern, length, size=20, seed=length))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_what_padding_holds_reaches_nobody(pattern: Pattern, dtype: torch.dtype) -> None:
    """Bit for bit the same with anything in padded keys and values; they themselves get gradient 0."""
    real = torch.rand(2, 130, generator=torch.Generator().manual_seed(3)) < 0.6
    call = flagged(pattern, 130, key_mask=real, size=16).to(dtype)
    padding = ~real[:, None, :, None]
    wanted = run(call, "cpu")
    for junk in (float("nan"), float("inf"), -float("inf"), 3e38):
        dirty = replace(call, k=call.k.masked_fill(padding, junk), v=call.v.masked_fill(padding, junk))
        found = run(dirty, "cpu")
        assert_same(found, wanted, 0.0, 0.0)
        assert all(torch.equal(one, other) for one, other in zip(found.grads, wanted.grads, strict=True))
        assert not any(grad.masked_select(padding).any() for grad in found.grads[1:])


def documents(length: int, first: int) -> Tensor:
    return torch.arange(length).expand(2, -1) // 40 + first


EMPTY_TEXT = torch.tensor([[False], [True]])
NOTHING_TO_SEE: dict[str, Call] = {
    "a text of padding": flagged(Window(10, 5) | Global(), 130, key_mask=EMPTY_TEXT.expand(2, 130), size=16),
    "behind all keys": random_call(Window(10, 0), 130, 100, size=16),
    "before all keys": random_call(
        Full(causal=True), 60, size=16, positions=(torch.arange(-20, 40).expand(2, -1), torch.arange(60).expand(2, -1))
    ),
    "other documents": random_call(Window(50, 50), 130, 100, size=16, segments=(documents(130, 0), documents(100, 2))),
    "no keys": random_call(Full(), 50, 0, size=16),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NOTHING_TO_SEE)
def test_rows_that_see_nothing(name: str, dtype: torch.dtype) -> None:
    """Output 0, log-sum-exp -inf, gradient 0: exactly; all others are as the reference has them."""
    call = NOTHING_TO_SEE[name]
    allowed = visible(make_inputs(call.q, call.k, call.v, call.pattern, **call.options))
    empty = ~allowed.expand(*call.q.shape[:3], call.k.shape[2]).any(-1)
    assert empty.any()
    with poisoned():
        found = run(call.to(dtype), "cpu")
    assert found.lse is not None
    assert torch.equal(found.lse.isneginf(), empty)
    assert not found.out[empty].any()
    assert not found.grads[0][empty].any()
    assert all(grad.isfinite().all() for grad in found.grads)
    if dtype == torch.float32:
        compare(call)
