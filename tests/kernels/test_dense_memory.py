"""What the dense backend says that it holds and keeps, against the tensors that are alive while it runs."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from kept_bytes import kept_bytes
from live_bytes import LiveBytes
from torch import nn

from gossamer.kernels.backends.dense import DENSE
from gossamer.kernels.inputs import make_inputs
from gossamer.patterns import Full, Pattern, PerHead, Window

BATCH, HEADS, LENGTH, SIZE = 2, 4, 256, 2
PAIRS = LENGTH * LENGTH
BAND = Window(20, 20)
BIASES: dict[str, tuple[int, ...]] = {
    "pairs": (LENGTH, LENGTH),
    "heads": (HEADS, LENGTH, LENGTH),
    "texts-and-heads": (BATCH, HEADS, LENGTH, LENGTH),
    "keys": (BATCH, 1, 1, LENGTH),
}


def measured(dtype: torch.dtype, pattern: Pattern, learns: bool = False, **more: Any) -> Sequence[int]:
    """Bytes told to be held and kept, and those that are; q, k and v require gradients."""
    shape = BATCH, HEADS, LENGTH, SIZE
    given = nn.ParameterList([torch.randn(shape, dtype=dtype) for _ in range(3)])
    inputs = make_inputs(*given, pattern, **more)
    if inputs.bias is not None:
        inputs.bias.requires_grad_(learns)
    with LiveBytes(given) as live:
        kept = kept_bytes(lambda: DENSE.run(inputs)[0], given)
    return DENSE.scratch(inputs), live.most, DENSE.keeps(inputs), kept


def check(dtype: torch.dtype, pattern: Pattern, learns: bool = False, **more: Any) -> None:
    held, live, keeps, kept = measured(dtype, pattern, learns, **more)
    # Copies of queries, keys, values and output are no part of it; the mask is larger than what it is made of.
    copies, making = 8 * BATCH * HEADS * LENGTH * SIZE * 4, 0 if pattern == Full() else 11 * PAIRS
    bias = more.get("bias")
    if bias is not None and bias.dtype == torch.float64:
        making += bias.nbytes  # bounded and converted one after the other
    assert live - copies <= held <= live + making
    assert kept - copies <= keeps <= kept


@pytest.mark.parametrize("pattern", [Full(), BAND], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias_dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("bias", BIASES)
def test_a_bias_counts_as_it_stands(bias: str, bias_dtype: torch.dtype, dtype: torch.dtype, pattern: Pattern) -> None:
    check(dtype, pattern, bias=torch.randn(BIASES[bias], dtype=bias_dtype))


@pytest.mark.parametrize("pattern", [Full(), BAND], ids=str)
@pytest.mark.parametrize("bias", BIASES)
def test_a_bias_that_learns_has_all_scores(bias: str, pattern: Pattern) -> None:
    check(torch.float32, pattern, learns=True, bias=torch.randn(BIASES[bias]))


@pytest.mark.parametrize("pattern", [Full(), BAND, PerHead((BAND, 3), (Full(), 1))], ids=str)
@pytest.mark.parametrize("bias", [None, "heads"])
@pytest.mark.parametrize("told_apart", ["padding", "documents"])
def test_texts_that_differ_have_a_mask_each(told_apart: str, bias: str | None, pattern: Pattern) -> None:
    half = (torch.arange(LENGTH) < LENGTH // 2).expand(BATCH, -1)
    more = {"key_mask": half} if told_apart == "padding" else {"segments": half.long()}
    check(torch.float32, pattern, bias=None if bias is None else torch.randn(BIASES[bias]), **more)


def test_what_needs_no_mask_holds_none() -> None:
    for pattern in (Full(), Window(LENGTH, LENGTH), Full(causal=True)):
        held, _, keeps, _ = measured(torch.float32, pattern)
        assert (held, keeps) == (0, 0)


def test_a_mask_that_all_calls_share_is_kept_by_none() -> None:
    assert measured(torch.float32, BAND)[2] == 0
