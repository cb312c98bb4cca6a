"""What is measured: the patterns by name, how they grow with the text, and one input for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

import gossamer as gs
from gossamer.patterns import Pattern

HEADS, HEAD_SIZE = 12, 64
SUMMARY = 8
"""Summary cells of a block of `Fixed`: the least that the Sparse Transformer was trained with."""
GLOBAL_TOKENS = 16
"""About a question in front of its context."""
DIRECTIONS = ("forward", "forward + backward")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A pattern that is measured: `make(n)` is the one for n tokens, of which the first `flagged` ones are global.

    `attention_window` is what transformers calls the same window; None where it has no such pattern.
    """

    name: str
    make: Callable[[int], Pattern]
    flagged: int = 0
    attention_window: int | None = None

    @property
    def family(self) -> str:
        """The word that `--only` takes."""
        return "global" if self.flagged else self.name.split()[0]


def stride(n: int) -> int:
    """The power of two nearest to sqrt(n), as in the Sparse Transformer (section 4.2): work grows as n sqrt(n)."""
    return 2 ** round(math.log2(n) / 2)


def _dilated(n: int) -> Pattern:
    return gs.Window(256, 256, dilation=4)


def _global(n: int) -> Pattern:
    return gs.Window(256, 256) | gs.Global()


def _dense(n: int) -> Pattern:
    return gs.Full()


def _strided(n: int) -> Pattern:
    return gs.Strided(stride(n))


def _fixed(n: int) -> Pattern:
    return gs.Fixed(stride(n), SUMMARY)


def _window(size: int, n: int) -> Pattern:
    return gs.Window.from_attention_window(size)


WINDOWS = (64, 128, 256, 512, 1024, 2048)
DENSE, DILATED, STRIDED, FIXED = "dense", "dilated 512 by 4", "strided sqrt(n)", "fixed sqrt(n)"
WITH_GLOBAL = f"window 512 + {GLOBAL_TOKENS} global"

SHAPES = {
    shape.name: shape
    for shape in (
        *(Shape(name=f"window {size}", make=partial(_window, size), attention_window=size) for size in WINDOWS),
        Shape(name=DILATED, make=_dilated),
        Shape(name=STRIDED, make=_strided),
        Shape(name=FIXED, make=_fixed),
        Shape(name=WITH_GLOBAL, make=_global, flagged=GLOBAL_TOKENS),
        Shape(name=DENSE, make=_dense),
    )
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """One batch element: q, k, v and the gradient of the output, all [1, heads, n, head_size]."""

    shape: Shape
    q: Tensor
    k: Tensor
    v: Tensor
    grad: Tensor

    @property
    def n(self) -> int:
        return self.q.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        return self.q.dtype

    @property
    def qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.q, self.k, self.v

    @cached_property
    def pattern(self) -> Pattern:
        return self.shape.make(self.n)

    @cached_property
    def flags(self) -> Tensor | None:
        """The global tokens, boolean [1, n]."""
        return torch.arange(self.n)[None] < self.shape.flagged if self.shape.flagged else None

    @cached_property
    def pairs(self) -> int:
        return self.pattern.pairs(self.n, flags=None if self.flags is None else self.flags[0])

    def useful_flops(self, direction: str) -> int:
        """Two products a pair forward, five more backward, of head_size multiply-adds each."""
        return (4 if direction == "forward" else 14) * self.pairs * HEADS * HEAD_SIZE


def make_problem(shape: Shape, n: int, dtype: torch.dtype, seed: int) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    q, k, v, grad = (torch.randn(1, HEADS, n, HEAD_SIZE, generator=generator).to(dtype) for _ in range(4))
    return Problem(shape=shape, q=q, k=k, v=v, grad=grad)
