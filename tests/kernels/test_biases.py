"""Biases: numbers of any dtype beside any dtype of q, and booleans, against float64."""

from dataclasses import replace

import pytest
import torch
from kernel_cases import random_call, relative_error, run
from torch import Tensor

from gossamer import Full, Window, attend, explain

HALF = {torch.bfloat16: 2e-2, torch.float16: 3e-3}


def alibi(length: int, heads: int, dtype: torch.dtype) -> Tensor:
    """Press et al. 2022: slopes of a geometric sequence times the distance."""
    slopes = 2.0 ** -torch.arange(1, heads + 1, dtype=torch.float64)
    distance = (torch.arange(length)[None] - torch.arange(length)[:, None]).abs()
    return (-slopes[:, None, None] * distance)[None].to(dtype)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("bias_dtype", [torch.float32, torch.float64])
def test_a_wide_bias_beside_half_precision_is_not_rounded(dtype: torch.dtype, bias_dtype: torch.dtype) -> None:
    """At 512 tokens bfloat16 knows distances to 2 alone: an error of 0.36 where 0.007 is what q, k and v have."""
    call = random_call(Full(causal=True), 512, heads=4, size=16, batch=1, bias=alibi(512, 4, bias_dtype)).to(dtype)
    assert explain(call.q, call.k, call.v, call.pattern, **call.options).backend == "dense"
    wanted = run(call.to(torch.float64).with_options(bias=alibi(512, 4, torch.float64)), "reference")
    for backend in ("auto", "dense", "reference"):
        found = run(call, backend, return_lse=False)
        assert found.out.dtype == dtype
        assert (found.out.double() - wanted.out).abs().max() < HALF[dtype]
        assert relative_error(found.gradient, wanted_gradient(call)) < HALF[dtype]


def wanted_gradient(call: object) -> Tensor:
    exact = replace(call.to(torch.float64), grad_lse=None)  # type: ignore[attr-defined, type-var]
    return run(exact, "reference").gradient


def test_a_bias_in_the_other_half_precision_is_not_rounded_either() -> None:
    """Exact in float16, not in bfloat16; and beyond float16's numbers in bfloat16."""
    bias = (torch.arange(512.0) * 0.25).half()[None, None]
    call = random_call(Full(), 512, heads=4, size=16, batch=1, bias=bias).to(torch.bfloat16)
    call = replace(call, grad_out=None)
    exact = run(call.with_options(bias=bias.double()).to(torch.float64), "reference").out
    for backend in ("auto", "dense"):
        assert (run(call, backend, return_lse=False).out.double() - exact).abs().max() < 2e-2
    far = torch.tensor([[-40000.0, -50000.0, -60000.0]]).bfloat16()
    call = replace(random_call(Full(), 3, batch=1, heads=1, bias=far).to(torch.float16), grad_out=None)
    for backend in ("auto", "dense", "reference"):
        torch.testing.assert_close(run(call, backend, return_lse=False).out, call.v[:, :, :1].expand(1, 1, 3, 8))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("bias_dtype", "lowest"),
    [
        (torch.float32, -1e9),
        (torch.float32, torch.finfo(torch.float32).min),
        (torch.float64, -1e300),
        (torch.float64, torch.finfo(torch.float64).min),
        (None, "least"),
    ],
)
def test_a_finite_bias_stays_finite(dtype: torch.dtype, bias_dtype: torch.dtype | None, lowest: float | str) -> None:
    """Among keys of which all have it, it says nothing; beside others, such a key has no weight; only -inf hides."""
    kind = bias_dtype or dtype
    least = torch.finfo(kind).min if lowest == "least" else lowest
    bias = torch.zeros(1, 1, 6, 8, dtype=kind)
    bias[0, 0, 0] = least  # all alike
    bias[0, 0, 1, :4] = least
    bias[0, 0, 2] = float("-inf")
    call = random_call(Full(), 6, 8, bias=bias).to(dtype)
    bound = {torch.float16: 3e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)
    exact = call.to(torch.float64)
    for backend in ("auto", "dense", "reference"):
        out = run(call, backend, return_lse=False).out.double()
        assert out.isfinite().all()
        assert (out[:, :, 2] == 0).all()
        one = run(replace(exact, options={}, k=exact.k[:, :, 4:], v=exact.v[:, :, 4:], grad_out=None), "reference").out
        torch.testing.assert_close(out[:, :, 1], one[:, :, 1], rtol=0, atol=bound)
        # Scores vanish beside so large a number, or not at all: either way every key counts.
        assert (out[:, :, 0].norm() > 0).all()


@pytest.mark.parametrize("shape", [(9, 11), (2, 9, 11), (3, 2, 9, 11), (1, 11), (9, 1), (3, 1, 1, 11), (2, 1, 1)])
@pytest.mark.parametrize("backend", ["auto", "dense", "reference"])
def test_booleans_say_who_may_see_whom(shape: tuple[int, ...], backend: str) -> None:
    may_see = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.6
    numbers = torch.zeros(shape, dtype=torch.float64).masked_fill(~may_see, float("-inf"))
    call = random_call(Window(3, 5), 9, 11, batch=3, bias=may_see)
    full = run(call.with_options(bias=numbers.expand(3, 2, 9, 11)), "reference", return_lse=False)
    for bias in (may_see, numbers):
        found = run(call.with_options(bias=bias), backend, return_lse=False)
        torch.testing.assert_close(found.out, full.out, rtol=0, atol=1e-12)
        torch.testing.assert_close(found.gradient, full.gradient, rtol=0, atol=1e-12)
    seen = call.pattern.mask(9, 11) & may_see.expand(3, 2, 9, 11)
    assert torch.equal(full.out.abs().sum(-1) > 0, seen.any(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_learns_beside_any_dtype(dtype: torch.dtype) -> None:
    call = replace(random_call(Full(causal=True), 30, heads=2, batch=1), grad_lse=None)
    grads = []
    for kind, backend in ((torch.float64, "reference"), (dtype, "dense"), (dtype, "auto")):
        bias = alibi(30, 2, torch.float32).requires_grad_()
        one = call.to(kind)
        out = attend(one.q, one.k, one.v, one.pattern, bias=bias, backend=backend)
        (out * one.grad_out).sum().backward()
        grads.append(bias.grad)
    for grad in grads[1:]:
        assert grad.dtype == torch.float32
        assert relative_error(grad, grads[0]) < (2e-2 if dtype == torch.bfloat16 else 1e-5)
