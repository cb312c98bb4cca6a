"""The other primitive: a product with a weight, computed in the way that this processor is fastest with.

`torch` is torch's own product; `onednn` is oneDNN's, in float32 on the CPU, which the same torch brings along: on
processors that are not Intel's it is up to twice as fast (docs/linear.md). Both are right; their last bits differ.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError, quote
from gossamer.kernels.activations import ACTIVATIONS
from gossamer.kernels.torch_state import has_onednn_linear, is_intercepted, is_plain_tensor, onednn_linear

__all__ = ["LinearExplanation", "explain_linear", "linear"]

WAYS = ("torch", "onednn")
VARIABLE = "GOSSAMER_LINEAR"
"""The environment variable that forces a way."""

MARGIN = 1.5
"""How many times as fast oneDNN must be to be taken: where both are level, chance must not decide."""
FEWEST_ROWS = 64
"""With fewer rows a product reads its weight once, and nothing else takes time."""


@dataclass(frozen=True)
class LinearExplanation:
    """The way that computes a product, and why."""

    way: str
    reason: str

    def __str__(self) -> str:
        return f"{self.way}: {self.reason}"


def linear(
    x: Float[Tensor, "*rest inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, "outputs"] | None = None,
    activation: str | None = None,
    residual: Float[Tensor, "*rest outputs"] | None = None,
) -> Float[Tensor, "*rest outputs"]:
    """`activation(x @ weight.T + bias) + residual`.

    activation: a name of `gossamer.kernels.activations.ACTIVATIONS`. All ways have all derivatives. Raises InputError
    where the variable GOSSAMER_LINEAR names no way.
    """
    out = _onednn(x, weight, bias) if _takes_onednn(x, weight, bias) else F.linear(x, weight, bias)
    if activation is not None:
        out = ACTIVATIONS[activation](out)
    return out if residual is None else out + residual


def explain_linear(
    x: Float[Tensor, "*rest inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, "outputs"] | None = None,
) -> LinearExplanation:
    """Which way computes this product, and why: what `linear` would do."""
    way = "onednn" if _takes_onednn(x, weight, bias) else "torch"
    if why := _why_not_onednn(x, weight, bias):
        return LinearExplanation(way, why)
    if _forced() is not None:
        return LinearExplanation(way, f"{VARIABLE} says so")
    least = "" if way == "onednn" else f", less than {MARGIN}"
    return LinearExplanation(way, f"oneDNN's is {_speedup():.2f} times as fast here{least}")


def _takes_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    if torch.compiler.is_compiling():
        return False
    forced = _forced()
    # The first is the commonest while a text is written, and the others take longer than a product of a small model.
    if forced == "torch" or _has_few_rows(x) or _why_not_onednn(x, weight, bias):
        return False
    return forced == "onednn" or _speedup() >= MARGIN


def _has_few_rows(x: Tensor) -> bool:
    return x.dim() == 0 or x.numel() < FEWEST_ROWS * x.shape[-1]


def _forced() -> str | None:
    value = os.environ.get(VARIABLE) or "auto"
    if value not in (*WAYS, "auto"):
        raise InputError(f"{VARIABLE} is {quote(value)}; it must be one of auto, {', '.join(WAYS)}")
    return None if value == "auto" else value


def _why_not_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> str | None:
    if torch.compiler.is_compiling() or is_intercepted():
        return "a compiler, a transform or a mode of torch reads along"
    given = (x, weight) if bias is None else (x, weight, bias)
    if not all(map(is_plain_tensor, given)):
        return "not plain tensors in main memory"
    if any(one.dtype != torch.float32 for one in given) or torch.is_autocast_enabled("cpu"):
        return "oneDNN's is for float32"
    if x.dim() == 0 or weight.dim() != 2 or x.shape[-1] != weight.shape[1]:
        return "shapes that do not fit"  # torch says it
    if bias is not None and bias.shape != weight.shape[:1]:
        return "a bias of another shape"  # torch broadcasts it, or says that it does not fit
    if _has_few_rows(x) or not weight.numel():
        return f"fewer than {FEWEST_ROWS} rows"
    if not has_onednn_linear():
        return "this torch has no oneDNN"
    return None if torch.backends.mkldnn.enabled else "torch.backends.mkldnn is switched off"


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    learns = torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (x, weight, bias))
    out = _Product.apply(rows, weight, bias) if learns else _product(rows, weight, bias)
    return out.view(*x.shape[:-1], weight.shape[0])


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """oneDNN takes no weight whose rows share numbers, and reads a bias as if it lay in one piece."""
    return onednn_linear(rows, weight if _is_laid_out(weight) else weight.contiguous(), _in_one_piece(bias))


def _is_laid_out(matrix: Tensor) -> bool:
    """Whether rows or columns lie in one piece, one behind the other."""
    (rows, columns), (down, across) = matrix.shape, matrix.stride()
    return (across == 1 and down >= columns) or (down == 1 and across >= rows)


def _in_one_piece(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.contiguous()


class _Product(torch.autograd.Function):
    """Rows [rows, inputs] times weight [outputs, inputs]; its gradients are products of views, by the same way."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Like torch's own it keeps no more than its gradients need: of frozen weights not the states.
        of_rows, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(rows if of_weight else None, weight if of_rows else None)
        return _product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        of_bias = ctx.needs_input_grad[2]
        return (
            None if weight is None else linear(grad, weight.t()),
            None if rows is None else linear(grad.t(), rows.t()),
            grad.sum(0) if of_bias else None,
        )


@cache
def _speedup() -> float:
    """How many times as fast as torch's product oneDNN's is: one thread's own time, the best of a few rounds.

    What else the machine does must not decide, so no time is counted in which this thread does not run.
    """
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, generator=generator) for shape in ((256, 384), (768, 384)))
    ways: dict[str, Callable[[], Tensor]] = {
        "torch": lambda: F.linear(x, weight),
        "onednn": lambda: onednn_linear(x, weight, None),
    }
    threads, best = torch.get_num_threads(), dict.fromkeys(ways, float("inf"))
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(8):
                for way, product in ways.items():
                    start = time.thread_time()
                    product()
                    best[way] = min(best[way], time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return best["torch"] / best["onednn"]
