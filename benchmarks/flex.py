"""FlexAttention as a contestant: the patterns in its language, a window's block mask written down without a search."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from shapes import DENSE, DILATED, FIXED, HEAD_SIZE, STRIDED, SUMMARY, WITH_GLOBAL, Problem, Shape, stride
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from gossamer.patterns import Window

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

LONGEST_SEARCH = 8192
"""Beyond this, looking at all n x n pairs for the block mask takes minutes and gigabytes."""


def flex(problem: Problem, setting: str) -> Attention:
    """Compiled FlexAttention; it compiles at the first call. `forget_compiled` beforehand keeps its dispatch short."""
    compiled = torch.compile(flex_attention, fullgraph=True, dynamic=False)
    if problem.shape.name == DENSE:
        return partial(compiled, scale=HEAD_SIZE**-0.5)
    return partial(compiled, block_mask=block_mask(problem, int(setting)))


def forget_compiled() -> None:
    """Drop what was compiled for other lengths: every call would look through it, and after eight torch gives up."""
    torch._dynamo.reset()


def block_mask(problem: Problem, size: int) -> BlockMask:
    mask_mod = mask_mod_of(problem.shape, problem.n)
    if is_plain_window(problem.shape):
        return band_block_mask(problem.n, size, _side(problem.pattern), mask_mod)
    return create_block_mask(mask_mod, None, None, problem.n, problem.n, device="cpu", BLOCK_SIZE=size)


def is_plain_window(shape: Shape) -> bool:
    return shape.attention_window is not None


def mask_mod_of(shape: Shape, n: int) -> MaskMod:
    """The pattern as FlexAttention is told it, from the papers' formulas, not from Gossamer's masks."""
    step = stride(n)
    if shape.name == STRIDED:
        return lambda b, h, i, j: (j <= i) & ((i - j <= step) | ((i - j) % step == 0))
    if shape.name == FIXED:
        return lambda b, h, i, j: (j <= i) & ((i // step == j // step) | (j % step >= step - SUMMARY))
    if shape.name == DILATED:
        return lambda b, h, i, j: (i - j <= 4 * 256) & (j - i <= 4 * 256) & ((i - j) % 4 == 0)
    flagged, side = (shape.flagged, 256) if shape.name == WITH_GLOBAL else (0, (shape.attention_window or 0) // 2)
    if flagged:
        return lambda b, h, i, j: ((i - j <= side) & (j - i <= side)) | (i < flagged) | (j < flagged)
    return lambda b, h, i, j: (i - j <= side) & (j - i <= side)


def _side(pattern: object) -> int:
    assert isinstance(pattern, Window)
    assert pattern.before == pattern.after
    return pattern.before


def band_block_mask(n: int, size: int, side: int, mask_mod: MaskMod) -> BlockMask:
    """What `create_block_mask(mask_mod, ...)` finds by looking at all n x n pairs, written down from the band."""
    starts = torch.arange(0, n, size)
    ends = (starts + size).clamp(max=n) - 1
    nearest = (starts - ends[:, None]).clamp(min=0) - (ends - starts[:, None]).clamp(max=0)
    farthest = torch.maximum(ends - starts[:, None], ends[:, None] - starts)
    whole = (ends - starts + 1 == size) & (ends - starts + 1 == size)[:, None]
    full = (farthest <= side) & whole
    lists = [t for kind in ((nearest <= side) & ~full, full) for t in _block_list(kind)]
    return BlockMask.from_kv_blocks(*lists, BLOCK_SIZE=size, mask_mod=mask_mod, seq_lengths=(n, n))


def _block_list(wanted: Tensor) -> tuple[Tensor, Tensor]:
    """How many key blocks each query block takes, and which, wanted ones first: [1, 1, rows], [1, 1, rows, columns]."""
    order = wanted.int().argsort(dim=1, descending=True, stable=True)
    return wanted.sum(1, dtype=torch.int32)[None, None], order.int()[None, None]
