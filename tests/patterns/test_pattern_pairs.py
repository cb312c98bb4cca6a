"""`pairs` is the sum of the mask, at sizes where the mask could not be built."""

import pytest
import torch
from hypothesis import given, settings
from pattern_strategies import patterns, places

from gossamer.patterns import Fixed, Full, Global, PerHead, Strided, Window, grid


@settings(max_examples=400)
@given(patterns, places())
def test_pairs_are_the_sum_of_the_mask(pattern, place):
    assert pattern.pairs(**place) == int(pattern.mask(**place).sum())


@given(patterns, places())
def test_counting_by_blocks_of_rows_is_the_same(pattern, place):
    """The fallback that a pattern without its own sums gets."""
    whole = grid.BLOCK_CELLS
    grid.BLOCK_CELLS = 50
    try:
        assert pattern.pairs(**place) == int(pattern.mask(**place).sum())
    finally:
        grid.BLOCK_CELLS = whole


def test_known_counts():
    assert Full().pairs(10) == 100
    assert Full(causal=True).pairs(10) == 55
    assert Window(1, 1).pairs(10) == 28
    assert Window(256, 256).pairs(8192) == 8192 * 513 - 256 * 257
    assert PerHead((Full(), 3), (Window(0, 0), 2)).pairs(10) == 320
    # Local: 1 to 129 keys; columns before them: 0 to 62 of those 128 apart from 256 tokens on.
    assert Strided(128).pairs(8192) == 8192 * 129 - 128 * 129 // 2 + 128 * 62 * 63 // 2
    # Blocks: a triangle each; summaries: 8 of each of 0 to 63 blocks before.
    assert Fixed(128, 8).pairs(8192) == 64 * 128 * 129 // 2 + 128 * 8 * 63 * 64 // 2


@pytest.mark.parametrize(
    "pattern",
    [
        Full(causal=True),
        Window(500, 500, dilation=3),
        Window(256, 256) | Global(),
        Strided(1024) | Window(9, 9, 7),
        Fixed(1024, 32) | Window(2000, 0),
    ],
    ids=str,
)
def test_a_million_tokens_are_counted_without_their_mask(pattern):
    length = 2**20
    flags = torch.zeros(length, dtype=torch.bool)
    flags[[0, 9, length - 1]] = True
    assert pattern.pairs(length, flags=flags) > length


def test_large_counts_do_not_overflow():
    length = 2**31 - 1
    assert Full().pairs(length) == length**2
    assert Window(length, length, dilation=length).pairs(length) == length
    assert Full(causal=True).pairs(length) == length * (length + 1) // 2
    assert Strided(1).pairs(length) == Strided(length, "local").pairs(length) == length * (length + 1) // 2
    assert Strided(length, "column").pairs(length) == length
