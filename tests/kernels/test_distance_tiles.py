"""A table by distance within tiles, on `blocked` and `cpu`: against the reference in float64, with all gradients."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import OUTPUT_ERROR, Call, calls, peak_bytes, poisoned, random_call, relative_error
from torch import Tensor

from gossamer import Fixed, Full, Global, PerHead, Sink, Strided, Window, attend, explain
from gossamer.kernels.distance_bias import DistanceBias

DTYPES = {"blocked": torch.float64, "blocked, fused": torch.float32, "cpu": torch.float32}
# A column is the sum over all pairs of its distance, which cancel to a part of what they are alone.
GRADIENT_ERROR = {torch.float64: 1e-11, torch.float32: 3e-5}


def outcome(call: Call, bias: DistanceBias, backend: str) -> list[Tensor]:
    """Output, log-sum-exp, and the gradients of q, k, v and of the table where that learns."""
    q, k, v = (x.detach().clone().requires_grad_() for x in (call.q, call.k, call.v))
    leaves = [q, k, v, *([bias.table] if bias.table.requires_grad else [])]
    out, lse = attend(q, k, v, call.pattern, distance_bias=bias, backend=backend, return_lse=True, **call.options)
    lse = lse.masked_fill(lse.isneginf(), 0)
    total = (out * call.grad_out).sum()
    if call.grad_lse is not None:
        total = total + (lse * call.grad_lse).sum()
    return [x.detach() for x in (out, lse, *torch.autograd.grad(total, leaves))]


def check(call: Call, bias: DistanceBias, name: str) -> None:
    backend, dtype = name.split(",")[0], DTYPES[name]
    call = call.to(dtype)
    bias = replace(bias, table=bias.table.to(dtype).requires_grad_(bias.table.requires_grad))
    exact = replace(bias, table=bias.table.detach().double().requires_grad_(bias.table.requires_grad))
    wanted = outcome(call.to(torch.float64), exact, "reference")
    with poisoned():
        found = outcome(call, bias, backend)
    for one, right in zip(found[:2], wanted[:2], strict=True):
        assert relative_error(one, right) <= 2 * OUTPUT_ERROR[dtype]
    grads, right_grads = (torch.cat([x.double().flatten() for x in several[2:5]]) for several in (found, wanted))
    assert relative_error(grads, right_grads) <= GRADIENT_ERROR[dtype]
    for one, right in zip(found[5:], wanted[5:], strict=True):
        assert one.dtype == dtype
        assert (one - right).norm() <= GRADIENT_ERROR[dtype] * (right.norm() + right_grads.norm())


@st.composite
def biases(draw: st.DrawFn, call: Call) -> DistanceBias:
    """Of any reach, none on either side too; also of positions that are not what the pattern reads."""
    before, after = (draw(st.sampled_from([0, 0, 1, 5, 16, 40, 130, 400])) for _ in range(2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    table = torch.randn(call.q.shape[1], before + after + 1, generator=generator, dtype=torch.float64)
    positions = None
    if draw(st.sampled_from([False, False, True])):
        batch = draw(st.sampled_from([1, call.q.shape[0]]))
        positions = tuple(
            torch.randint(0, 200, (batch, x.shape[2]), generator=generator).sort(1, descending=draw(st.booleans()))[0]
            for x in (call.q, call.k)
        )
    learns = draw(st.sampled_from([True, True, False]))
    return DistanceBias(table=table.requires_grad_(learns), before=before, positions=positions)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DTYPES)
@given(call=calls(), data=st.data())
def test_it_equals_the_reference(name: str, call: Call, data: st.DataObject) -> None:
    check(call, data.draw(biases(call)), name)


PATTERNS: dict[str, Any] = {
    "full": Full(),
    "causal": Full(causal=True),
    "window": Window(10, 5),
    "wide window": Window(200, 90),
    "dilated": Window(40, 12, 3),
    "global": Window(10, 5) | Global(),
    "per head": PerHead((Window(10, 5) | Global(), 1), (Window(3, 3, 2), 1)),
    "cells": PerHead((Fixed(16, 3), 1), (Strided(9), 1)),
    "sink": PerHead((Sink(3) | Window(10, 0), 1), (Sink(20), 1)),
}


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_at_awkward_lengths(pattern: str, name: str) -> None:
    for length in (1, 47, 130, 330):
        real = torch.arange(length) < torch.tensor([[length], [length * 2 // 3]])
        flags = torch.arange(length).expand(2, -1) % 40 == 7
        marks = {"segments": (torch.arange(length) // 50).expand(2, -1), "key_mask": real}
        for before, after, options in ((3, 1, {}), (128, 128, marks), (0, 500, {"key_mask": real})):
            call = random_call(PATTERNS[pattern], length, seed=length, size=16, global_mask=flags, **options)  # type: ignore[arg-type]
            table = torch.randn(2, before + after + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
            check(call, DistanceBias(table=table.requires_grad_(), before=before), name)


@pytest.mark.parametrize("backend", ["blocked", "cpu"])
@pytest.mark.parametrize("pattern", [Full(), Window(40, 60)], ids=str)
def test_memory_is_linear(pattern: Any, backend: str) -> None:
    """Four times the length takes no more than about four times the memory, beyond the same that both hold."""

    def work(length: int) -> int:
        call = random_call(pattern, length, batch=1, heads=1, size=8).to(torch.float32)
        table = torch.randn(1, 257).requires_grad_()
        bias = DistanceBias(table=table, before=128)
        return peak_bytes(lambda: outcome(replace(call, grad_lse=None), bias, backend)[0].sum().item())

    work(64)
    assert work(4096) <= 4.4 * work(1024)


@pytest.mark.parametrize("backend", ["blocked", "cpu"])
def test_auto_takes_it_where_all_pairs_are_many(backend: str) -> None:
    q = torch.zeros(1, 2, 1, 8, dtype=torch.float64 if backend == "blocked" else None).expand(-1, -1, 4096, -1)
    said = explain(q, q, q, Full(), distance_bias=(torch.zeros(2, 5), 2))
    assert said.backend == backend
    assert said.others["dense"]


def test_no_gradient_depends_on_the_threads() -> None:
    """Columns are added up in one order, whoever had which part of the text."""
    call = replace(random_call(Window(30, 30), 3000, key_heads=1, size=16).to(torch.float32), grad_lse=None)
    bias = DistanceBias(table=torch.randn(2, 41).requires_grad_(), before=20)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(outcome(call, bias, "cpu")[-1])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("backend", ["blocked", "cpu"])
def test_minus_infinity_hides(backend: str) -> None:
    call = random_call(Full(), 70, heads=1, batch=1).to(torch.float32)
    table = torch.tensor([[0.0, float("-inf"), float("-inf")]])  # nobody sees itself, or a later key
    out, lse = attend(call.q, call.k, call.v, call.pattern, distance_bias=(table, 1), backend=backend, return_lse=True)
    wanted = attend(call.q[:, :, 1:], call.k, call.v, Full(causal=True), backend="reference")
    torch.testing.assert_close(out[:, :, 1:], wanted, rtol=0, atol=1e-5)
    assert not out[:, :, 0].any()
    assert lse[0, 0, 0].isneginf()
