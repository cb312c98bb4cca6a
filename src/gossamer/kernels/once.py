"""Torch's fused attention has no second derivative: asked for one, it says so in our words."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.inputs import tracing
from gossamer.kernels.torch_state import in_transform

__all__ = ["differentiable_once", "refusing"]

Three = tuple[Tensor, Tensor, Tensor]


def differentiable_once(q: Tensor, k: Tensor, v: Tensor) -> Three:
    """The same tensors, whose gradients refuse to be differentiated; InputError then names the backend that can."""
    recorded = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if not recorded or tracing() or in_transform():
        return q, k, v
    return _Once.apply(q, k, v)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Three:
        ctx.set_materialize_grads(False)
        same = q.view_as(q), k.view_as(k), v.view_as(v)
        ctx.mark_non_differentiable(*(x for x, learns in zip(same, ctx.needs_input_grad, strict=True) if not learns))
        return same

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        words = "backend 'dense' has no second derivative; use backend='reference', which has all of them"
        return tuple(None if grad is None else refusing(grad, words) for grad in grads)


def refusing(grad: Tensor, words: str) -> Tensor:
    """The same gradient; where it is to be differentiated again, that raises InputError with these words."""
    return _Refuse.apply(grad, words) if torch.is_grad_enabled() else grad


class _Refuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, words: str) -> Tensor:
        ctx.words = words
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        raise InputError(ctx.words)
