"""More keys than a core's cache holds: several tiles of queries then share each block of keys."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from cpu_cases import SETS, compare
from kernel_cases import poisoned, random_call, relative_error, run

from gossamer import Full
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library

KEYS = 701
"""Of 256 numbers each, keys and values fill more than 1 MiB."""
TILE = 48
"""The most queries that are worked on at once; what one of them does not see has weight 0 there."""


@pytest.fixture(params=SETS, autouse=True)
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = library._open(request.param)
    monkeypatch.setattr(cpu_attention, "library", lambda: opened)


@pytest.mark.parametrize("queries", [1, 47, 49, 193, KEYS])
@pytest.mark.parametrize("causal", [False, True])
def test_equals_the_reference(queries: int, causal: bool) -> None:
    start = KEYS - queries if causal else 0
    compare(random_call(Full(causal=causal), queries, KEYS, size=256, heads=2, key_heads=1, query_start=start))


def marks() -> dict[str, dict[str, Any]]:
    at = torch.arange(KEYS).expand(2, -1)
    real = torch.stack([at[0] < 650, at[0] % 3 > 0])
    return {
        "padding": {"key_mask": real},
        "documents": {"segments": at // 300},
        "dropout": {"dropout": 0.2, "seed": 3},
        "nothing to see": {"key_mask": torch.zeros_like(real)},
    }


@pytest.mark.parametrize("name", marks())
@pytest.mark.parametrize("causal", [False, True])
def test_marks(name: str, causal: bool) -> None:
    compare(random_call(Full(causal=causal), KEYS, size=256, heads=1).with_options(**marks()[name]))


@pytest.mark.parametrize("causal", [False, True])
def test_threads_change_no_bit(causal: bool) -> None:
    call = random_call(Full(causal=causal), KEYS, size=256, heads=2).to(torch.float32)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            outcome = run(call, "cpu")
            found.append((outcome.out, *outcome.grads))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
def test_half_precision(causal: bool, dtype: torch.dtype) -> None:
    call = random_call(Full(causal=causal), 1101, size=256, heads=1).to(dtype)
    wanted = run(call.to(torch.float64), "reference")
    with poisoned():
        found = run(call, "cpu")
    for mine, expected in zip((found.out, *found.grads), (wanted.out, *wanted.grads), strict=True):
        assert relative_error(mine, expected) < 2**-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_of_later_keys_stays_in_its_tile(dtype: torch.dtype) -> None:
    call = random_call(Full(causal=True), 1101, size=256, heads=1, batch=1).to(dtype)
    clean = run(call, "cpu").out
    for first in (95, 97, 600):
        k, v = call.k.clone(), call.v.clone()
        k[:, :, first:], v[:, :, first:] = float("nan"), float("nan")
        spoilt = run(replace(call, k=k, v=v, grad_out=None), "cpu").out
        apart = first - TILE
        assert torch.equal(spoilt[:, :, :apart], clean[:, :, :apart])
        assert spoilt[:, :, first:].isnan().all()
