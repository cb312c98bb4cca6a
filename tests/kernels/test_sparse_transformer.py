"""Strided and Fixed, their parts and their unions with windows, on every backend: pieces, documents, decoding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Call, assert_same, check, exact_patterns, poisoned, random_call, relative_error, run
from torch import Tensor

from gossamer import Fixed, Full, Global, PerHead, Strided, Window, attend, explain
from gossamer.errors import InputError
from gossamer.kernels.backends.blocked.tiles import Tiles, block_tiles, gathered_tiles
from gossamer.kernels.backends.cpu import attention as cpu_attention
from gossamer.kernels.backends.cpu import library
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.pieces import Band, compile_pattern, pieces_from_numbers, pieces_to_numbers
from gossamer.kernels.visible import visible
from gossamer.patterns import Pattern

STRIDE = 16
LENGTHS = (1, STRIDE - 1, STRIDE, STRIDE + 1, 63, 111)
SETS = [
    name
    for name in library.INSTRUCTION_SETS
    if library.library().gs_supports(name.encode()) and library._open(name) is not None
]
PATTERNS = {
    "strided": Strided(STRIDE),
    "local and column": PerHead((Strided(STRIDE, "local"), 1), (Strided(STRIDE, "column"), 1)),
    "strided and window": PerHead((Strided(STRIDE) | Window(40, 3), 1), (Strided(5) | Window(4, 2), 1)),
    "strided and dilated": PerHead((Strided(STRIDE) | Window(9, 1, 6), 1), (Strided(6, "column") | Window(9, 9, 4), 1)),
    "fixed": Fixed(STRIDE, 3),
    "block and summary": PerHead((Fixed(STRIDE, 3, "block"), 1), (Fixed(STRIDE, 3, "summary"), 1)),
    "offsets": PerHead((Fixed(STRIDE, 2, offset=2), 1), (Fixed(STRIDE, 2, "summary", 14), 1)),
    "fixed and window": PerHead((Fixed(STRIDE, 3) | Window(4, 2), 1), (Fixed(5, 1, "summary") | Window(40, 0), 1)),
    "fixed and dilated": PerHead((Fixed(STRIDE, 3) | Window(9, 1, 3), 1), (Fixed(40, 3) | Window(2, 0, 7), 1)),
    "all kinds": PerHead((Strided(7), 1), (Fixed(9, 2), 1), (Window(3, 3) | Global(), 1), (Full(), 1)),
    "two pieces beside none": PerHead((Fixed(9, 2, "summary") | Window(3, 3), 1), (Global(), 1)),
}
every_pattern = pytest.mark.parametrize("name", PATTERNS)
BACKENDS = {"cpu": torch.float32, "blocked": torch.float64, "dense": torch.float64, "portable": torch.float64}
every_backend = pytest.mark.parametrize("backend", BACKENDS)
ERRORS = {torch.float32: 3e-6, torch.float64: 1e-12}


@pytest.fixture(params=SETS)
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    opened = library._open(request.param)
    monkeypatch.setattr(cpu_attention, "library", lambda: opened)
    return request.param


def case(name: str, length: int, keys: int | None = None, **options: Any) -> Call:
    pattern = PATTERNS[name]
    heads = pattern.heads if isinstance(pattern, PerHead) else 2
    return random_call(pattern, length, keys, heads=heads, **options)


@pytest.mark.usefixtures("instructions")
@every_pattern
def test_the_compiled_kernel_in_every_instruction_set(name: str) -> None:
    for length in LENGTHS:
        flags = torch.arange(length).expand(2, -1) % 50 == 7
        call = case(name, length, global_mask=flags, size=16).to(torch.float32)
        wanted = run(call.to(torch.float64), "reference")
        with poisoned():
            found = run(call, "cpu")
        assert_same(found, wanted, 2e-6, 5e-6)


@every_backend
@every_pattern
def test_padding_documents_dropout_and_fewer_key_heads(name: str, backend: str) -> None:
    generator = torch.Generator().manual_seed(4)
    length = 111
    options: dict[str, Any] = {
        "key_mask": torch.rand(2, length, generator=generator) < 0.8,
        "segments": (torch.rand(2, length, generator=generator) < 0.05).cumsum(1),
    }
    call = case(name, length, key_heads=1, **options)
    if backend in ("cpu", "blocked"):
        call = call.with_options(dropout=0.2, seed=3)
    check(call, backend, BACKENDS[backend], return_lse=backend != "dense")


# Documents.


def starts(lengths: tuple[int, ...]) -> Tensor:
    return torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@every_pattern
def test_packed_documents_equal_separate_ones(name: str, backend: str) -> None:
    """Also on the reference: blocks are counted from each document's own start."""
    lengths = (30, 1, 45, 17)
    call = case(name, sum(lengths), batch=1).to(BACKENDS.get(backend, torch.float64))
    parts = [x.split(lengths, 2) for x in (call.q, call.k, call.v)]
    separate = [
        run(Call(q, k, v, call.pattern), "reference" if backend == "portable" else backend, return_lse=False).out
        for q, k, v in zip(*parts, strict=True)
    ]
    packed = run(call.with_options(segments=starts(lengths)), backend, return_lse=backend != "dense").out
    assert relative_error(packed, torch.cat(separate, 2)) < ERRORS[call.q.dtype]


def by_hand(pattern: Pattern, q_ids: list[int], k_ids: list[int], start: int) -> Tensor:
    """Who sees whom when a token's place is its index less that of the first key of its document."""
    queries, keys = len(q_ids), len(k_ids)
    mask = torch.zeros(queries, keys, dtype=torch.bool)
    for i in range(queries):
        for j in range(keys):
            if q_ids[i] == k_ids[j]:
                first = k_ids.index(k_ids[j])
                # A query may come before its document: 60 is a multiple of the strides.
                place, other = start + i - first + 60, j - first + 60
                mask[i, j] = pattern.mask(1, keys=other + 1, query_start=place)[0, -1]
    return mask


@settings(max_examples=15)
@given(
    st.sampled_from([Fixed(4, 1), Fixed(3, 2, "summary"), Fixed(5, 1) | Window(1, 1), Strided(3)]),
    st.lists(st.integers(-2, 1), min_size=1, max_size=14),
    st.lists(st.integers(-2, 1), min_size=1, max_size=14),
    st.integers(0, 6),
)
def test_places_in_documents_of_any_shape(pattern: Pattern, q_ids: list[int], k_ids: list[int], start: int) -> None:
    """Documents in pieces, and queries that are other tokens than the keys."""
    call = random_call(pattern, len(q_ids), len(k_ids), batch=1, query_start=start)
    call = call.with_options(segments=(torch.tensor([q_ids], dtype=torch.int32), torch.tensor([k_ids])))
    mask = visible(make_inputs(call.q, call.k, call.v, pattern, **call.options))
    assert torch.equal(mask[0, 0], by_hand(pattern, q_ids, k_ids, start))
    for backend, dtype in BACKENDS.items():
        check(call, backend, dtype, return_lse=backend != "dense")


@pytest.mark.parametrize("backend", ["cpu", "blocked", "dense"])
def test_given_positions_are_what_the_pattern_reads(backend: str) -> None:
    ids, length = starts((40, 60)), 100
    positions = torch.arange(length)[None] + 5
    pattern = PerHead((Fixed(8, 2), 1), (Fixed(7, 1) | Window(3, 2), 1))
    call = random_call(pattern, length, batch=1, segments=ids, positions=positions)
    mask = visible(make_inputs(call.q, call.k, call.v, pattern, **call.options))
    assert torch.equal(
        mask[0], pattern.mask(length, keys=length + 5, query_start=5)[..., 5:] & (ids[0][:, None] == ids[0])
    )
    check(call, backend, BACKENDS[backend], return_lse=backend != "dense")
    jumps = call.with_options(positions=torch.randint(1, 5, (1, length)).cumsum(1))
    check(jumps, backend, BACKENDS[backend], return_lse=backend != "dense")


def test_positions_in_any_order_on_the_compiled_kernel() -> None:
    generator = torch.Generator().manual_seed(2)
    for far in (50, 10**9):
        positions = tuple(torch.randint(-far, far, (2, n), generator=generator) for n in (60, 80))
        for name in ("strided", "block and summary", "fixed and window"):
            check(case(name, 60, 80, positions=positions), "cpu", torch.float32)
    check(case("fixed and dilated", 60, 80, positions=tuple(x % 99 for x in positions)), "cpu", torch.float32)


# Decoding: the last rows alone.


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@every_pattern
def test_the_last_rows_alone_equal_the_rows_of_the_whole(name: str, backend: str) -> None:
    length, ids = 75, starts((33, 42))
    for options in ({}, {"segments": ids}):
        call = case(name, length, batch=1, **options).to(BACKENDS.get(backend, torch.float64))
        whole = run(call, backend, return_lse=backend != "dense").out
        for count in (1, 20):
            last = Call(call.q[:, :, -count:], call.k, call.v, call.pattern, {**options, "query_start": length - count})
            found = run(last, backend, return_lse=backend != "dense").out
            assert relative_error(found, whole[:, :, -count:]) < ERRORS[call.q.dtype]


# Pieces.


def met(band: Band, queries: int, keys: int, start: int) -> Tensor:
    """How often a band holds each pair, by its words."""
    i, j = torch.arange(queries)[:, None] + start, torch.arange(keys)
    low, high = -(10**6) if band.low is None else band.low, 10**6 if band.high is None else band.high
    seen = ((j - i) % band.dilation == 0) & (j - i >= low * band.dilation) & (j - i <= high * band.dilation)
    if band.apart:
        seen = seen & ((j - i) % band.apart != 0)
    if band.stride:
        is_cell = (j % band.stride >= band.first) & (j % band.stride < band.stop)
        same = (j // band.stride - i // band.stride >= -band.near[0]) & (
            j // band.stride - i // band.stride <= band.near[1]
        )
        seen = seen & (same & ~is_cell if band.own_block else is_cell)
    return seen.long()


@settings(max_examples=150)
@given(exact_patterns(), st.integers(1, 40), st.integers(1, 60), st.integers(0, 30))
def test_bands_hold_every_pair_once(pattern: Pattern, queries: int, keys: int, start: int) -> None:
    groups = compile_pattern(pattern, 3)
    assert pieces_from_numbers(pieces_to_numbers(groups)) == groups
    total = sum((met(band, queries, keys, start) for band in groups[0].bands), torch.zeros(queries, keys).long())
    assert torch.equal(total, pattern.mask(queries, keys, start).long())


def covered(tiles: Iterator[Tiles], queries: int, keys: int) -> tuple[Tensor, Tensor]:
    """How often tiles hold each pair, and each query."""
    pairs, rows = torch.zeros(queries, keys, dtype=torch.long), torch.zeros(queries, dtype=torch.long)
    for group in tiles:
        for b in range(group.blocks):
            i, j = group.query_start + b * group.step, group.key_start + b * group.step
            assert i + group.rows <= queries
            assert j + group.keys <= keys
            pairs[i : i + group.rows, j : j + group.keys] += 1
            rows[i : i + group.rows] += 1
    return pairs, rows


@given(
    st.integers(0, 200), st.integers(0, 200), st.integers(1, 50), st.integers(0, 5), st.integers(0, 300),
    st.sampled_from([1, 8, 32]), st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip
def test_tiles_of_blocks(
    queries: int, keys: int, stride: int, back: int, start: int, rows: int, before: int, after: int
) -> None:
    high = after * stride - back
    band = Band(low=1 - (before + 1) * stride, high=high, stride=stride, own_block=True, near=(before, after))
    pairs, seen = covered(block_tiles(queries, keys, band, start, rows), queries, keys)
    i, j = torch.arange(queries)[:, None] + start, torch.arange(keys)
    apart = j // stride - i // stride
    near = (apart >= -before) & (apart <= after)
    assert (pairs <= 1).all()
    assert pairs[near & (j - i <= high)].all()
    assert not pairs[~near].any()
    assert (seen == 1).all()


@given(
    st.integers(0, 200), st.sets(st.integers(0, 300)), st.none() | st.integers(-200, 50), st.integers(-20, 20),
    st.integers(0, 100), st.sampled_from([1, 32, 512]),
)  # fmt: skip
def test_tiles_of_gathered_keys(
    queries: int, keys: set[int], low: int | None, high: int, start: int, rows: int
) -> None:
    at = torch.tensor(sorted(keys), dtype=torch.long)
    pairs, seen = covered(gathered_tiles(at, queries, low, high, start, rows), queries, len(at))
    distance = at - torch.arange(queries)[:, None] - start
    assert (pairs <= 1).all()
    assert pairs[(distance <= high) & (distance >= (-(10**6) if low is None else low))].all()
    assert (seen == 1).all()
    if rows == 1:
        assert not pairs[distance > high].any()


# Choice, compiling.


def test_auto_takes_the_compiled_kernel_and_explains_the_rest() -> None:
    q = torch.zeros(1, 1, 5000, 4)
    for pattern in (Strided(64), Fixed(64, 2), Fixed(64, 2) | Window(9, 0, 5)):
        assert explain(q, q, q, pattern).backend == "cpu"
    found = explain(q[:, :, :9], q[:, :, :9], q[:, :, :9], Strided(4) | Fixed(4, 1))
    assert found.backend == "reference"
    assert "the union of «fixed 4, 1 in summary» and «strided 4» has no exact pieces" in found.others["cpu"]
    with pytest.raises(InputError, match=re.escape("a dilated window over positions, or a column of Strided")):
        attend(q, q, q, Strided(4), positions=torch.arange(5000)[None], backend="blocked")


@pytest.mark.parametrize(
    "other", [Window(3, 3), Fixed(9, 2, "summary"), Fixed(9, 2, "summary") | Window(3, 3)], ids=str
)
def test_heads_without_any_piece_see_nothing(other: Pattern) -> None:
    """Also without gradients and when asked again: who writes a piece's rows alone must not forget the other heads."""
    call = random_call(PerHead((other, 1), (Global(), 1)), 200).to(torch.float32)
    wanted = attend(call.q, call.k, call.v, call.pattern, backend="reference")
    with torch.no_grad(), poisoned():
        for _ in range(3):
            found = attend(call.q, call.k, call.v, call.pattern, backend="cpu")
            assert relative_error(found, wanted) < 3e-6


def attention(q: Tensor, k: Tensor, v: Tensor, segments: Tensor, pattern: Pattern) -> Tensor:
    return attend(q, k, v, pattern, segments=segments)


@pytest.mark.parametrize("name", ["strided and dilated", "fixed", "fixed and window"])
def test_compiled_for_all_lengths(name: str) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(attention, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (40, 70, 1000):
        call = case(name, length).to(torch.float32)
        ids = torch.arange(length).expand(2, -1) // 23
        q, k, v = (x.requires_grad_() for x in (call.q, call.k, call.v))
        outs = [one(q, k, v, ids, call.pattern) for one in (compiled, attention)]
        assert relative_error(*outs) < 1e-6
        grads = [torch.autograd.grad(out, (q, k, v), call.grad_out) for out in outs]
        assert all(relative_error(one, other) < 1e-6 for one, other in zip(*grads, strict=True))
