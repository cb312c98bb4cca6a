"""Numbers in a pattern cost nothing: memory and steps are bounded by the call, and results are the reference's."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
import torch
from kernel_cases import assert_same, peak_bytes, random_call, run

from gossamer import Fixed, Global, PerHead, Strided, Window, attend
from gossamer.kernels import attention_rows, top_keys
from gossamer.kernels.backends.blocked import tiles
from gossamer.kernels.backends.cpu import rows
from gossamer.kernels.pieces import compile_pattern
from gossamer.patterns import Band, Pattern

MOST = 2**31 - 1
LENGTH = 64
PATTERNS: list[Pattern] = [
    Fixed(MOST, MOST),
    Fixed(MOST, 1),
    Fixed(MOST, 8, "summary", 3),
    Fixed(MOST, MOST, "summary"),
    Fixed(MOST, 1, "block", MOST - 1),
    Fixed(2**20, 8),
    Fixed(2**20, 2**20),
    Strided(MOST),
    Strided(MOST, "column"),
    Strided(MOST, "local"),
    Window(MOST, MOST),
    Window(MOST, MOST, MOST),
    Window(1, 1, MOST),
    Window(MOST, 0, 2),
    Window(3, 3, MOST) | Global(),
    Window(MOST, MOST) | Fixed(MOST, MOST),
    Window(5, 5, MOST) | Strided(MOST),
    Window(3, 0, 7) | Fixed(MOST, MOST),
    Window(3, 0, MOST) | Fixed(7, 2),
    Window(3, 0, MOST) | Strided(7),
    Window(3, 0, 7) | Strided(MOST),
    PerHead((Fixed(MOST, MOST), 1), (Window(MOST, MOST, MOST), 1)),
]
FLAGS = torch.arange(LENGTH).expand(1, -1) == 9
DOCUMENTS = torch.arange(LENGTH).expand(1, -1) // 20
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "documents": {"segments": (DOCUMENTS, DOCUMENTS)},
    "padding": {"key_mask": torch.arange(LENGTH).expand(1, -1) > 2},
    "far": {"query_start": 2**30},
}
TOO_FAR = "positions are too far apart for this pattern"


def work(backend: str, pattern: Pattern, options: dict[str, Any]) -> None:
    call = random_call(pattern, LENGTH, batch=1, global_mask=FLAGS, **options).to(torch.float32)
    if backend == "weights":
        attention_rows(call.q, call.k, pattern, [3, 40], **call.options)
        top_keys(call.q, call.k, pattern, 3, **call.options)
    else:
        assert_same(run(call, backend), run(call.to(torch.float64), "reference"), 3e-6, 1e-5)


@pytest.mark.parametrize("backend", ["cpu", "blocked", "portable", "reference", "auto", "weights"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_memory(backend: str, pattern: Pattern) -> None:
    """A few MB, forward and backward, with what the float64 reference holds; the CPU kernel may refuse positions."""
    for options in OPTIONS.values():
        refusals = []

        def attempt(options: dict[str, Any] = options, refusals: list[str] = refusals) -> None:
            try:
                work(backend, pattern, options)
            except ValueError as error:
                refusals.append(str(error))

        assert peak_bytes(attempt) < 4 * 2**20
        assert all(TOO_FAR in refusal and backend in ("cpu", "auto") for refusal in refusals)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("queries", [1, LENGTH])
def test_keys_that_are_looked_at(pattern: Pattern, queries: int) -> None:
    """What the kernel lists before it asks which of them are seen: no key that there is not, none twice or thrice."""
    for group in compile_pattern(pattern, 2):
        for band in group.bands:
            listed = rows._candidates(band, queries, LENGTH - queries, LENGTH)
            assert len(listed) <= LENGTH
            assert len(listed.unique()) == len(listed)


def test_tiles_that_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of blocks of two thousand million tokens, only the tiles of the call's own queries."""
    steps = 0

    def counted(*arguments: Any) -> int:
        nonlocal steps
        steps += 1
        assert steps < 1000, "more steps than tokens"
        return builtins.min(*arguments)

    monkeypatch.setattr(tiles, "min", counted, raising=False)
    for start in (0, 5, 2**30, MOST - 30):
        found = list(tiles.block_tiles(LENGTH, 2**31, own_block(MOST), start, 32))
        assert sum(one.rows * one.blocks for one in found) == LENGTH


def own_block(stride: int) -> Band:
    return Band(low=1 - stride, high=0, stride=stride, own_block=True)


@pytest.mark.parametrize("stride", [7, 31, 32, 33, 63, 64, 65, 100, 1000])
@pytest.mark.parametrize("start", [0, 1, 31, 40, 64, 130, 1000])
def test_tiles_cover_every_query_once(stride: int, start: int) -> None:
    for queries in (1, 30, 64, 200):
        seen = torch.zeros(queries, dtype=torch.int64)
        for one in tiles.block_tiles(queries, start + queries, own_block(stride), start, 32):
            for block in range(one.blocks):
                first = one.query_start + block * one.step
                seen[first : first + one.rows] += 1
        assert bool((seen == 1).all())


def test_the_call_that_took_17_gigabytes() -> None:
    q = torch.randn(1, 2, LENGTH, 8)
    for backend in ("cpu", "auto", "blocked"):
        wanted = attend(q, q, q, Window(MOST, 0), backend="reference")
        assert torch.allclose(attend(q, q, q, Fixed(MOST, MOST), backend=backend), wanted, atol=1e-6)
