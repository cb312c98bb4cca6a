"""Values of another size than queries and keys: on every backend, forward, backward and in compiled programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from cpu_cases import SETS
from kernel_cases import Call, assert_same, check, random_call, run
from torch import Tensor

from gossamer import Fixed, Full, Global, PerHead, Strided, Window, attend
from gossamer.kernels import attention_rows
from gossamer.kernels.backends.blocked.attention import OPERATOR as BLOCKED
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library
from gossamer.kernels.inputs import make_inputs
from gossamer.patterns import Pattern

PATTERNS: list[Pattern] = [
    Full(),
    Full(causal=True),
    Window(20, 9),
    Window(5, 2, 3),
    Window(10, 5) | Global(),
    Strided(9),
    Fixed(16, 3),
    PerHead((Window(9, 9), 2), (Full(), 2)),
]
SIZES = [(8, 1), (1, 8), (16, 64), (64, 16), (5, 17), (33, 20)]


def sized(pattern: Pattern, size: int, value_size: int, length: int = 130, heads: int = 4, **options: Any) -> Call:
    flags = torch.arange(length).expand(2, -1) % 50 == 7
    shape = {"heads": heads, "key_heads": heads // 2}
    call = random_call(pattern, length, **shape, size=size).with_options(global_mask=flags, **options)
    values = random_call(pattern, length, **shape, size=value_size, seed=1)
    return replace(call, v=values.v, grad_out=values.grad_out)


@pytest.mark.parametrize("backend", ["cpu", "blocked", "portable", "dense", "auto"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize(("size", "value_size"), SIZES)
def test_every_backend(backend: str, pattern: Pattern, size: int, value_size: int) -> None:
    call = sized(pattern, size, value_size)
    dtype = torch.float32 if backend in ("cpu", "auto") else torch.float64
    check(call, backend, dtype, return_lse=backend != "dense")
    check(call, backend, torch.float32, return_lse=backend != "dense")


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(("size", "value_size"), SIZES)
def test_every_instruction_set(name: str, size: int, value_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = library._open(name)
    monkeypatch.setattr(cpu_attention, "library", lambda: opened)
    real = torch.rand(2, 130, generator=torch.Generator().manual_seed(3)) < 0.8
    for pattern in PATTERNS:
        for options in ({}, {"key_mask": real}, {"dropout": 0.3, "seed": 4}):
            call = sized(pattern, size, value_size, **options)
            check(call, "cpu", torch.float32)
            wanted = run(call.to(torch.bfloat16).to(torch.float64), "reference")
            assert_same(run(call.to(torch.bfloat16), "cpu"), wanted, 5e-3, 1e-2)


def test_a_long_text() -> None:
    """Where tiles share blocks of keys, of a part of the values' or of the keys' size: beyond a MiB of both."""
    for size, value_size in ((160, 32), (32, 160)):
        check(sized(Full(), size, value_size, 1400, heads=2), "cpu", torch.float32)


def test_what_size_the_output_and_the_default_scale_have() -> None:
    call = sized(Full(), 16, 3).to(torch.float32)
    wanted = (call.q @ call.k.repeat_interleave(2, 1).mT / 4).softmax(-1) @ call.v.repeat_interleave(2, 1)
    for backend in ("cpu", "blocked", "dense", "reference", "auto"):
        for _ in range(2):  # the second call goes the short way
            found = attend(call.q, call.k, call.v, Full(), backend=backend)
            assert found.shape == (2, 4, 130, 3)
            if backend in ("cpu", "blocked", "auto"):
                assert found.transpose(1, 2).is_contiguous(), "otherwise than compiled programs are told"
            assert torch.allclose(found, wanted, atol=1e-5)


def test_weights_from_the_log_sum_exp() -> None:
    call = sized(Window(20, 9), 16, 40).to(torch.float32)
    out, lse = attend(call.q, call.k, call.v, Window(20, 9), return_lse=True, backend="cpu")
    weights = attention_rows(call.q, call.k, Window(20, 9), [3, 70], lse=lse)
    assert torch.allclose(weights @ call.v.repeat_interleave(2, 1), out[:, :, [3, 70]], atol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "blocked"])
def test_operators(backend: str) -> None:
    """What is said of the outputs before they are computed is so: shapes, strides and gradients."""
    call = sized(Window(10, 5) | Global(), 16, 24, 40).to(torch.float32)
    q, k, v = (x[:, :2].detach().requires_grad_() for x in (call.q, call.k, call.v))
    chosen = cpu_attention.OPERATOR if backend == "cpu" else BLOCKED
    operands = chosen.operands(make_inputs(q, k, v, call.pattern, **call.options))
    torch.library.opcheck(chosen.attention, operands)


def compiled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attend(q, k, v, Window(9, 4), backend="cpu") * 2


def test_compiled_programs() -> None:
    call = sized(Window(9, 4), 16, 24, 60).to(torch.float32)
    program = torch.compile(compiled, backend="aot_eager", fullgraph=True)
    assert torch.allclose(program(call.q, call.k, call.v), compiled(call.q, call.k, call.v), atol=1e-6)
