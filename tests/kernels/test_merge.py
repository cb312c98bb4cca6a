"""gs.merge: attention over disjoint sets of keys is attention over all of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gossamer as gs


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 6), st.integers(0, 99))
def test_parts_make_the_whole(sizes: list[int], queries: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = sum(sizes)
    q, k, v = (torch.randn(2, 3, n, 4, generator=generator, dtype=torch.float64) for n in (queries, keys, keys))
    bias = torch.rand(2, 3, queries, keys, generator=generator) < 0.5
    grad = torch.randn(2, 3, queries, 4, generator=generator, dtype=torch.float64)
    results = []
    for parts in ([keys], sizes):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        pieces = zip(inputs[1].split(parts, 2), inputs[2].split(parts, 2), bias.split(parts, 3), strict=True)
        found = [
            gs.attend(inputs[0], *kv, gs.Full(), bias=may_see, backend="reference", return_lse=True)
            for *kv, may_see in pieces
        ]
        out, lse = gs.merge(*(list(one) for one in zip(*found, strict=True)))
        (out * grad).sum().add(lse[lse.isfinite()].sum()).backward()
        results.append((out.detach(), lse.detach(), *(x.grad for x in inputs)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    unseen = ~bias.any(-1)
    assert (results[1][0][unseen] == 0).all()
    assert (results[1][1][unseen] == float("-inf")).all()
    assert all(x.isfinite().all() for x in results[1][2:])


def test_what_a_row_without_keys_holds_does_not_count() -> None:
    outputs = [torch.ones(1, 1, 2, 3), torch.full((1, 1, 2, 3), float("nan"))]
    lses = [torch.zeros(1, 1, 2), torch.full((1, 1, 2), float("-inf"))]
    out, lse = gs.merge(outputs, lses)
    assert torch.equal(out, outputs[0])
    assert torch.equal(lse, lses[0])


def test_half_precision_is_merged_in_float32() -> None:
    outputs = [torch.full((1, 1, 1, 2), 1.0).bfloat16(), torch.full((1, 1, 1, 2), 2.0).bfloat16()]
    lses = [torch.zeros(1, 1, 1), torch.full((1, 1, 1), 1e-3)]
    out, lse = gs.merge(outputs, lses)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    assert out.float() == pytest.approx(1.5, abs=4e-3)
    assert float(lse) == pytest.approx(0.6936473, abs=1e-6)


@pytest.mark.parametrize(
    ("outputs", "lses", "message"),
    [
        ([], [], "there are 0 outputs and 0 lses"),
        ([torch.zeros(1, 1, 2, 3)], [], "there are 1 outputs and 0 lses"),
        (torch.zeros(1, 1, 2, 3), [], r"outputs is tensor\(.*; it must be a list of tensors"),
        ([torch.zeros(1, 2, 3)], [torch.zeros(1, 1, 2)], r"outputs\[0\] is torch.float32 of shape \[1, 2, 3\]"),
        ([torch.zeros(1, 1, 2, 3)], [torch.zeros(1, 1, 3)], r"lses\[0\] is torch.float32 of shape \[1, 1, 3\]"),
        (
            [torch.zeros(1, 1, 2, 3)] * 2,
            [torch.zeros(1, 1, 2), torch.zeros(1, 1, 2).long()],
            r"lses\[1\] is torch.int64",
        ),
        ([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 4)], [torch.zeros(1, 1, 2)] * 2, r"outputs\[1\] is .*2, 4\]"),
    ],
)
def test_what_does_not_fit_is_refused(outputs: list[torch.Tensor], lses: list[torch.Tensor], message: str) -> None:
    with pytest.raises(gs.InputError, match=message):
        gs.merge(outputs, lses)
