"""Hashed attention: every backend against the definition, and the definition against what the words say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import Call, check, peak_bytes, random_call
from torch import Tensor

import gossamer as gs
from gossamer.errors import InputError
from gossamer.patterns import Hashes, pattern_from_dict

BATCH, HEADS, SIZE = 2, 3, 16


@st.composite
def hashed(draw: st.DrawFn, chunks: bool = True) -> gs.Hashed:
    reading = draw(st.sampled_from(["paper", "released"]))
    of_buckets = not chunks and reading == "paper" and draw(st.booleans())
    chunk = None if of_buckets else draw(st.sampled_from([1, 3, 4, 16]))
    fills = reading == "released" and draw(st.booleans())
    return gs.Hashed(
        rounds=draw(st.integers(1, 4)), buckets=draw(st.sampled_from([2, 4, 8, (2, 4), (4, 2, 2)])),
        chunk=chunk, causal=draw(st.booleans()), reading=reading,
        seed=draw(st.integers(0, 9)), before=draw(st.integers(0, 2)), after=draw(st.integers(0, 2)),
        whole=draw(st.none() | st.integers(0, 30)), ring=(chunk or 1) * draw(st.integers(1, 3)) if fills else None,
        itself=reading == "paper" and draw(st.booleans()),
    )  # fmt: skip


@st.composite
def hashed_calls(draw: st.DrawFn, chunks: bool = True) -> Call:
    """Buckets are given, so that no rounding decides them."""
    pattern = draw(hashed(chunks))
    length = draw(st.integers(1, 40))
    call = random_call(pattern, length, batch=BATCH, heads=HEADS, size=SIZE, seed=draw(st.integers(0, 99)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shape = (BATCH, HEADS, pattern.rounds, length)
    call = call.with_options(buckets=torch.randint(0, pattern.hashes.buckets, shape, generator=generator))
    if draw(st.booleans()):
        call = call.with_options(key_mask=torch.rand(BATCH, length, generator=generator) < 0.7)
    if draw(st.booleans()):
        call = call.with_options(segments=torch.randint(0, 3, (BATCH, length), generator=generator).sort(1).values)
    return call


@given(call=hashed_calls(chunks=False))
def test_cpu_is_the_definition(call: Call) -> None:
    check(call, "cpu", torch.float32)


@given(call=hashed_calls())
def test_blocked_is_the_definition(call: Call) -> None:
    check(call, "blocked", torch.float64)


def met_by_hand(pattern: gs.Hashed, buckets: list[list[int]]) -> Iterator[tuple[int, int]]:
    """Every meeting of a query and a key, as the sentences of `Hashed` have it."""
    length = len(buckets[0])
    usual = pattern.chunk if pattern.reading == "released" and pattern.chunk is not None else 0
    if length <= (usual if pattern.whole is None else pattern.whole):
        yield from ((i, j) for i in range(length) for j in range(length))
        return
    if pattern.chunk is None:
        yield from ((i, j) for row in buckets for i in range(length) for j in range(length) if row[i] == row[j])
        return
    rounds = []
    for row in buckets:
        order = sorted(range(length), key=lambda i, row=row: (row[i], i))
        filled = -(-length // (pattern.ring or pattern.chunk)) * (pattern.ring or pattern.chunk)
        rounds.append([order[at : at + pattern.chunk] for at in range(0, filled, pattern.chunk)])
    steps = range(-pattern.before, pattern.after + 1)
    if pattern.reading == "released":
        ring = [chunk for one in rounds for chunk in one]
        for at, chunk in enumerate(ring):
            yield from ((i, j) for step in steps for i in chunk for j in ring[(at + step) % len(ring)])
        return
    for row, chunks in zip(buckets, rounds, strict=True):
        for at, chunk in enumerate(chunks):
            near = [j for step in steps if 0 <= at + step < len(chunks) for j in chunks[at + step]]
            yield from ((i, j) for i in chunk for j in near if row[i] == row[j])


@given(call=hashed_calls(chunks=False))
def test_the_definition_is_what_its_words_say(call: Call) -> None:
    pattern, q, k, v = call.pattern, call.q, call.k, call.v
    assert isinstance(pattern, gs.Hashed)
    buckets = call.options["buckets"]
    length = q.shape[2]
    wanted = torch.zeros(BATCH, HEADS, length, length, dtype=torch.float64)
    for b in range(BATCH):
        for h in range(HEADS):
            for i, j in met_by_hand(pattern, buckets[b, h].tolist()):
                wanted[b, h, i, j] += 1
    wanted = wanted if pattern.reading == "released" else wanted.clamp(max=1)
    wanted *= ~torch.eye(length, dtype=torch.bool) | pattern.itself
    if pattern.causal:
        wanted = wanted.tril()
    seen = wanted > 0
    seen |= torch.eye(length, dtype=torch.bool) & ~seen.any(-1, keepdim=True)
    assert torch.equal(pattern.mask(length, buckets=buckets), seen)
    weights = (q @ k.mT * SIZE**-0.5 + wanted.clamp(min=1).log()).masked_fill(~seen, -torch.inf)
    out = gs.attend(q, k, v, pattern, buckets=buckets, backend="reference")
    # Of its own value alone a token gets a little less where the released code rounds so.
    others = torch.ones_like(seen[..., 0]) if pattern.reading == "paper" else (wanted > 0).any(-1)
    torch.testing.assert_close(out[others], (weights.softmax(-1) @ v)[others])
    assert pattern.pairs(length) >= int(seen.sum(-1).sum(-1).max())


def test_directions_that_are_near_share_a_bucket() -> None:
    hashes = gs.Hashed(rounds=64, buckets=8, chunk=None).hashes
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 1, SIZE, generator=generator)
    near, far = x + 0.1 * torch.randn(x.shape, generator=generator), -x
    found = hashes.hashed(torch.cat([x, 3 * x, near, far], 2), seed=3)[0, 0]
    assert torch.equal(found[:, 0], found[:, 1])
    assert (found[:, 0] == found[:, 2]).double().mean() > 0.7
    assert not (found[:, 0] == found[:, 3]).any()
    assert set(found.flatten().tolist()) <= set(range(8))


def test_new_rotations_at_every_call_unless_they_have_a_seed() -> None:
    generator = torch.Generator().manual_seed(0)
    q, v = (torch.randn(1, 2, 64, SIZE, generator=generator) for _ in range(2))

    def call(pattern: gs.Hashed, **options: Any) -> Tensor:
        return gs.attend(q, q, v, pattern, **options)

    loose, fixed = gs.Hashed(rounds=1, chunk=8, buckets=8), gs.Hashed(rounds=1, chunk=8, buckets=8, seed=5)
    assert not torch.equal(call(loose), call(loose))
    assert torch.equal(call(loose, seed=1), call(loose, seed=1))
    assert not torch.equal(call(loose, seed=1), call(loose, seed=2))
    assert torch.equal(call(fixed, seed=1), call(fixed, seed=2))
    buckets = fixed.hashes.hashed(q, 5)
    assert torch.equal(call(fixed), call(loose, buckets=buckets))


@pytest.mark.parametrize("backend", ["cpu", "blocked"])
def test_dropout_is_the_definition_s(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    q, v = (torch.randn(2, 2, 50, SIZE, generator=generator) for _ in range(2))
    pattern = gs.Hashed(rounds=2, buckets=4, chunk=8, seed=1)
    found, wanted = (gs.attend(q, q, v, pattern, dropout=0.4, seed=7, backend=name) for name in (backend, "reference"))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("reading", ["paper", "released"])
def test_later_queries_alone(reading: str) -> None:
    """A decoder's new token sees what it would among all of them."""
    generator = torch.Generator().manual_seed(0)
    q, v = (torch.randn(1, 2, 37, SIZE, generator=generator) for _ in range(2))
    k = torch.nn.functional.normalize(q, dim=-1)
    pattern = gs.Hashed(rounds=2, buckets=4, chunk=5, reading=reading, seed=1)
    whole = gs.attend(q, k, v, pattern)
    last = gs.attend(q[:, :, -3:], k, v, pattern, query_start=34)
    torch.testing.assert_close(last, whole[:, :, -3:])


def test_it_says_what_it_is_and_is_read_back() -> None:
    pattern = gs.Hashed(rounds=2, buckets=(4, 8), chunk=16, reading="released", seed=3, after=1)
    assert pattern_from_dict(pattern.to_dict()) == pattern
    assert str(pattern) == "hashed, 2 rounds of 4 x 8 buckets, chunks of 16, as released"
    assert Hashes.from_numbers(pattern.hashes.numbers) == pattern.hashes
    assert str(gs.Hashed(1, 8, None, causal=False)) == "hashed, 1 round of 8 buckets, whole buckets, both ways"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gs.Hashed(buckets=7), "buckets is 7; each number must be even"),
        (lambda: gs.Hashed(buckets=(4, 3)), "take 2 or 4"),
        (lambda: gs.Hashed(rounds=0), "rounds is 0"),
        (lambda: gs.Hashed(ring=64), "ring is 64; it must be a multiple of chunk, 64, in the reading 'released'"),
        (lambda: gs.Hashed(chunk=8, ring=12, reading="released"), "ring is 12; it must be a multiple of chunk, 8"),
        (lambda: gs.Hashed(whole=-1), "whole is -1"),
        (lambda: gs.Hashed(itself=True, reading="released"), "does not see itself"),
        (lambda: gs.Hashed(chunk=0), "chunk is 0"),
        (lambda: gs.Hashed(chunk=None, reading="released"), "give a size"),
        (lambda: gs.Hashed(reading="trax"), "must be one of 'paper', 'released'"),
        (lambda: gs.Hashed() | gs.Window(2, 0), "cannot be part of a union"),
        (lambda: gs.PerHead((gs.Hashed(), 2)), "is hashed, which all heads of a layer are"),
        (lambda: gs.Hashed().mask(4), "has no mask without buckets"),
        (lambda: gs.Hashed().mask(4, buckets=torch.zeros(2, 4, dtype=torch.int64)), r"\[..., 4, 4\]"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buckets": torch.zeros(1, 2, 4, 5, dtype=torch.int64)}, r"buckets has shape \[1, 2, 4, 5\]"),
        ({"buckets": torch.zeros(1, 2, 4, 6)}, "must be an integer tensor"),
        ({"query_start": 3}, "not all among the 6 keys"),
        ({"backend": "dense"}, "who sees whom depends on buckets"),
        ({"bias": torch.zeros(6, 6), "backend": "cpu"}, "it takes no bias"),
        ({"query_start": torch.tensor([0])}, None),
        ({"buckets": torch.full((1, 2, 4, 6), 64)}, "from 64 to 64; they must be from 0 to 63"),
        ({"segments": (torch.ones(1, 6).long(), torch.arange(6)[None]), "backend": "cpu"}, "segments differ"),
        ({"positions": (torch.ones(1, 6).long(), torch.arange(6)[None]), "backend": "blocked"}, "positions differ"),
    ],
)
def test_what_a_call_refuses(options: dict[str, Any], message: str | None) -> None:
    q = torch.randn(1, 2, 6, SIZE, generator=torch.Generator().manual_seed(0))
    if message is None:
        gs.attend(q, q, q, gs.Hashed(), **options)
        return
    with pytest.raises(InputError, match=message):
        gs.attend(q, q, q, gs.Hashed(), **options)


@pytest.mark.parametrize("reading", ["paper", "released"])
@pytest.mark.parametrize("shape", [(0, 2, 6), (2, 2, 0), (2, 2, 1)])
@pytest.mark.parametrize("backend", ["cpu", "blocked", "reference"])
def test_little_or_nothing(backend: str, shape: tuple[int, ...], reading: str) -> None:
    q = torch.randn(*shape, SIZE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    out = gs.attend(q, q, q, gs.Hashed(2, 4, 2, reading=reading, seed=0), backend=backend)
    out.sum().backward()
    assert out.shape == q.shape
    assert not out.isnan().any()


@pytest.mark.parametrize("start", [-8, 40, 2**29])
def test_queries_that_are_no_keys(start: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, SIZE, generator=generator) for n in (10, 3, 3))
    pattern = gs.Hashed(2, 4, None, seed=0)
    found, wanted = (gs.attend(q, k, v, pattern, query_start=start, backend=one) for one in ("cpu", "reference"))
    torch.testing.assert_close(found, wanted)


def test_a_bias_forbids_itself_too() -> None:
    q = torch.randn(1, 2, 6, SIZE, generator=torch.Generator().manual_seed(0))
    pattern = gs.Hashed(1, 2, None, seed=0)
    assert not gs.attend(q, q, q, pattern, bias=torch.zeros(6, 6, dtype=torch.bool)).any()
    bias = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    _, plain = gs.attend(q, q, q, pattern, backend="reference", return_lse=True)
    _, added = gs.attend(q, q, q, pattern, bias=bias, return_lse=True)
    torch.testing.assert_close(added[..., 0], plain[..., 0] + bias[0, 0])


def test_autocast_hashes_what_it_multiplies() -> None:
    q = torch.randn(1, 2, 200, SIZE, generator=torch.Generator().manual_seed(0))
    pattern = gs.Hashed(2, 32, 16, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gs.attend(q, q, q, pattern)
    half = q.bfloat16()
    assert torch.equal(found, gs.attend(half, half, half, pattern))


def test_memory_follows_the_text_where_chunks_are_longer() -> None:
    q = torch.randn(1, 1, 8, SIZE, generator=torch.Generator().manual_seed(0))
    assert peak_bytes(lambda: gs.attend(q, q, q, gs.Hashed(2, 4, 4096, seed=0), backend="blocked")) < 2**20


def test_explaining_hashes_nothing_and_draws_nothing() -> None:
    q = torch.randn(1, 2, 64, SIZE, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    assert gs.explain(q, q, q, gs.Hashed()).backend == "cpu"
    assert torch.equal(torch.get_rng_state(), state)


def test_no_exported_program_draws_rotations() -> None:
    class Attention(torch.nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            return gs.attend(q, q, q, gs.Hashed(2, 4, 4, seed=0))

    with pytest.raises(Exception, match="no exported program can"):
        torch.export.export(Attention(), (torch.randn(1, 2, 16, SIZE),))


def test_a_picture_is_an_example() -> None:
    drawn = gs.Hashed(2, 4, 4).text(24)
    assert drawn == gs.Hashed(2, 4, 4).text(24) != gs.Full(causal=True).text(24)


def test_buckets_are_for_hashed_patterns() -> None:
    q = torch.randn(1, 2, 6, SIZE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="which is not hashed"):
        gs.attend(q, q, q, gs.Full(), buckets=torch.zeros(1, 2, 4, 6, dtype=torch.int64))


@settings(max_examples=10)
@given(length=st.integers(1, 40))
def test_gradients_by_finite_differences(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(1, 1, length, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    pattern = gs.Hashed(rounds=2, buckets=2, chunk=4, seed=0)
    buckets = pattern.hashes.hashed(q, 0)
    assert torch.autograd.gradcheck(lambda *x: gs.attend(*x, pattern, buckets=buckets, backend="blocked"), (q, k, v))
