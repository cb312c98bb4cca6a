"""Blocks around a ring: who sees whom, by its words, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import Call, check

import gossamer as gs
from gossamer.kernels import attention_rows
from gossamer.patterns import Chunks, pattern_from_dict


@st.composite
def rings(draw: st.DrawFn) -> Chunks:
    size = draw(st.integers(1, 9))
    before, after = draw(st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 1), (0, 3)]))
    return Chunks(size, False, before, after, ring=size * draw(st.integers(1, 3)))


def times(pattern: Chunks, tokens: int) -> torch.Tensor:
    """How often each token counts each other one: once for every way round that leads to its block."""
    blocks = -(-tokens // pattern.ring) * pattern.ring // pattern.size
    found = torch.zeros(tokens, tokens, dtype=torch.int64)
    for i in range(tokens):
        for j in range(tokens):
            apart = range(-pattern.before, pattern.after + 1)
            reached = [(i // pattern.size + step) % blocks if tokens > pattern.size else 0 for step in apart]
            found[i, j] = reached.count(j // pattern.size) if tokens > pattern.size else 1
    return found


@given(rings(), st.integers(1, 40), st.integers(0, 99), st.booleans())
def test_attention_around_a_ring_is_its_words(pattern: Chunks, tokens: int, seed: int, padded: bool) -> None:
    met = times(pattern, tokens)
    assert torch.equal(pattern.mask(tokens), met > 0)
    assert pattern.pairs(tokens) == int((met > 0).sum())
    assert not pattern.covers(tokens, tokens) or bool((met == 1).all())
    torch.manual_seed(seed)
    q, k, v = (torch.randn(2, 2, tokens, 5, dtype=torch.float64, requires_grad=True) for _ in range(3))
    real = torch.rand(2, tokens) < 0.7 if padded else torch.ones(2, tokens, dtype=torch.bool)
    weights = (q @ k.mT / 5**0.5).exp() * met * real[:, None, None]
    wanted = weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-30)
    given_mask = real if padded else None
    grad = torch.randn_like(wanted)
    expected = torch.autograd.grad((wanted * grad).sum(), (q, k, v))
    for backend in ("reference", "blocked", "cpu"):
        dtype = torch.float64 if backend == "reference" else torch.float32
        mine = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
        out = gs.attend(*mine, pattern, key_mask=given_mask, backend=backend)
        torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-5)
        found = torch.autograd.grad((out * grad.to(dtype)).sum(), mine)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pattern", [Chunks(3, before=2), Chunks(4, False, 1, 2), Chunks(7, False, 0, 1)])
@pytest.mark.parametrize("backend", ["blocked", "cpu"])
def test_neighbouring_blocks_with_documents_and_padding(pattern: Chunks, backend: str) -> None:
    torch.manual_seed(1)
    q, k, v, grad = (torch.randn(2, 3, 41, 5, dtype=torch.float64) for _ in range(4))
    ids = torch.tensor([[0] * 13 + [1] * 28, [0] * 20 + [1] * 2 + [2] * 19])
    mask = torch.rand(2, 41) < 0.8
    for options in ({}, {"segments": ids}, {"key_mask": mask}, {"segments": ids, "key_mask": mask}):
        check(Call(q, k, v, pattern, options, grad, None), backend, torch.float32)


def test_one_document_a_row_has_its_ring() -> None:
    pattern = Chunks(2, False, 1, 0, ring=6)
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 6, 4) for _ in range(3))
    one = torch.zeros(2, 6, dtype=torch.long)
    alone = gs.attend(q, k, v, pattern)
    assert torch.equal(gs.attend(q, k, v, pattern, segments=one), alone)
    assert torch.equal(gs.attend(q, k, v, pattern, global_mask=one.bool()), alone)
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    filled = gs.attend(q, k, v, pattern, key_mask=mask, segments=torch.where(mask, 0, 1))
    assert torch.equal(filled[:, :, :4], gs.attend(q, k, v, pattern, key_mask=mask)[:, :, :4])
    two = torch.tensor([[0, 0, 0, 0, 1, 1]] * 2)
    plain = gs.attend(q, k, v, Chunks(2, False, 1, 0), segments=two)
    assert torch.equal(gs.attend(q, k, v, pattern, segments=two), plain)


def test_a_ring_is_saved_and_written() -> None:
    pattern = Chunks(4, False, 1, 0, ring=8)
    assert pattern_from_dict(pattern.to_dict()) == pattern
    assert pattern_from_dict({"pattern": "chunks", "size": 4, "causal": True}) == Chunks(4)  # as older files say it
    older = {name: one for name, one in gs.Hashed().to_dict().items() if name not in ("whole", "ring", "itself")}
    assert pattern_from_dict(older) == gs.Hashed()
    assert str(pattern) == "chunks 4, 1 before, 0 after, a ring of 8s (both ways)"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Chunks(4, True, 0, 1), "after is 1; it must be 0 where causal"),
        (lambda: Chunks(4, False, 1, ring=6), "ring is 6; it must be 0, or a multiple of size, 4"),
        (lambda: Chunks(4, True, 1, ring=4), "ring is 4"),
        (lambda: Chunks(4, False, ring=4), "ring is 4"),
        (lambda: Chunks(2**30, False, 2), "may reach over 2147483647 tokens at most"),
        (lambda: Chunks(8, False, 2000, ring=8), "before is 2000 and after 0; around a ring they must be at most 1024"),
        (lambda: gs.Hashed(before=10**6), "before is 1000000; it must be at most 1024 chunks"),
        (lambda: Chunks(4, False, 1, ring=4) | gs.Full(), "cannot be part of a union; give it a layer of its own"),
        (lambda: gs.PerHead((Chunks(4, False, 1, ring=4), 1)), "is a ring, which all heads of a layer are"),
    ],
)
def test_what_no_ring_is(make, said: str) -> None:
    with pytest.raises(gs.InputError) as problem:
        make()
    assert said in str(problem.value)


def test_what_a_ring_is_not_given() -> None:
    pattern, x = Chunks(2, False, 1, ring=2), torch.randn(1, 1, 6, 4)
    for options in ({"query_start": 1}, {"bias": torch.zeros(6, 6)}, {"positions": torch.arange(6)[None]}):
        with pytest.raises(gs.InputError, match="ring=0"):
            gs.attend(x, x, x, pattern, **options)
    with pytest.raises(gs.InputError, match="around a ring keys may count twice"):
        attention_rows(x, x, pattern, torch.tensor([0]))
