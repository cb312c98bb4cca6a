"""Sums of attention weights over blocks and kinds of pairs, against the dense weights summed up by hand."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import random_call
from torch import Tensor

from gossamer import Full, Global, PerHead, Sink, Window
from gossamer.errors import InputError
from gossamer.kernels import attention_rows
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.visible import visible
from gossamer.kernels.weights import Bins, walk, weight_sums
from gossamer.patterns import Hashed, Pattern

LENGTH, HEADS = 37, 2
PATTERNS: list[Pattern] = [
    Full(), Full(causal=True), Window(4, 4), Window(6, 0, 2), Window(3, 3) | Global(), Window(5, 0) | Sink(2),
    PerHead((Window(2, 2), 1), (Full(causal=True), 1)),
]  # fmt: skip


def bins(blocks: tuple[int, int]) -> Bins:
    rows, columns = (torch.arange(LENGTH) * count // LENGTH for count in blocks)
    return Bins(
        queries=rows, keys=columns, kind=lambda q, k: (q[:, None] - k).abs().clamp(max=3), kinds=4, shape=blocks
    )  # fmt: skip


def by_hand(values: Tensor, of: Bins) -> Tensor:
    """Of [heads, queries, keys], summed over blocks."""
    rows, columns = (
        torch.nn.functional.one_hot(at, count).to(values.dtype)
        for at, count in zip((of.queries, of.keys), of.shape, strict=True)
    )
    return rows.T @ values @ columns


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@given(
    blocks=st.tuples(st.integers(1, LENGTH), st.integers(1, LENGTH)), chunk=st.integers(1, 50),
    scores=st.integers(20, 4000), known=st.booleans(), seed=st.integers(0, 9), masks=st.booleans(),
)  # fmt: skip
def test_they_are_the_dense_weights_summed(
    pattern: Pattern, blocks: tuple[int, int], chunk: int, scores: int, known: bool, seed: int, masks: bool
) -> None:
    random = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(1, HEADS, LENGTH, 4, dtype=torch.float64, generator=random) for _ in range(2))
    options: dict[str, Any] = {"global_mask": torch.rand(1, LENGTH, generator=random) < 0.1}
    if masks:
        options["key_mask"] = torch.rand(1, LENGTH, generator=random) < 0.8
        options["segments"] = (torch.arange(LENGTH) // 20)[None]
    of, weights = bins(blocks), attention_rows(q, k, pattern, range(LENGTH), **options)[0]
    seen = visible(make_inputs(q, k, k, pattern, **options))[0].expand(HEADS, LENGTH, LENGTH)
    lse = None
    if known:
        dense = (q @ k.mT / 2).masked_fill(~seen, float("-inf"))
        lse = dense.logsumexp(-1)
    with patch.object(walk, "CHUNK", chunk), patch.object(walk, "BLOCK_SCORES", scores):
        found = weight_sums(q, k, pattern, of, lse=lse, **options)
    torch.testing.assert_close(found.blocks, by_hand(weights, of), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.pairs, by_hand(seen.double(), of), rtol=0, atol=0)
    kind = of.kind(torch.arange(LENGTH), torch.arange(LENGTH))
    kinds = torch.stack([(weights * (kind == one)).sum((1, 2)) for one in range(4)], dim=1)
    torch.testing.assert_close(found.kinds, kinds, rtol=0, atol=1e-12)


def test_some_queries_are_a_part_of_all() -> None:
    q, k = (torch.randn(1, HEADS, LENGTH, 4, dtype=torch.float64) for _ in range(2))
    of = bins((5, 7))
    some, rest = torch.tensor([3, 36, 0]), torch.tensor([i for i in range(LENGTH) if i not in (3, 36, 0)])
    whole = weight_sums(q, k, Window(4, 4), of)
    parts = weight_sums(q, k, Window(4, 4), of, rows=some) + weight_sums(q, k, Window(4, 4), of, rows=rest)
    for name in ("blocks", "pairs", "kinds"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


def test_fewer_key_heads_and_half_precision() -> None:
    call = random_call(Window(3, 3), heads=4, key_heads=2, queries=LENGTH, keys=LENGTH, batch=1)
    of = bins((4, 4))
    wide = weight_sums(call.q, call.k, call.pattern, of)
    assert wide.blocks.shape == (4, 4, 4)
    half = weight_sums(call.q.bfloat16(), call.k.bfloat16(), call.pattern, of)
    assert half.blocks.dtype == torch.float32
    torch.testing.assert_close(half.blocks, wide.blocks.float(), rtol=0.05, atol=0.05)


def test_what_has_no_weights_to_show_is_refused() -> None:
    q = torch.randn(1, HEADS, LENGTH, 4)
    with pytest.raises(InputError, match="are not shown yet"):
        weight_sums(q, q, Hashed(), bins((2, 2)))
