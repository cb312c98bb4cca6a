"""A backend as one differentiable operator of torch over a whole pattern, which torch.compile sees as one opaque node.

The operator saves q, k, v, the final output and the final log-sum-exp; the backward pass runs each piece's backward
with them (Liu et al. 2023, ring attention).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.hashing import Buckets
from gossamer.kernels.inputs import Inputs, tracing
from gossamer.kernels.pieces import HeadGroup, pieces_from_numbers, pieces_to_numbers, why_not_pieces
from gossamer.kernels.precision import wide
from gossamer.kernels.storage import check_storage
from gossamer.kernels.token_values import TokenValues
from gossamer.kernels.torch_state import has_tangents, in_transform, is_jit_traced, is_plain_eager

__all__ = ["Arguments", "Operator", "empty_outputs", "needs_plain_operations", "why_no_bias", "why_no_operator"]


PER_TOKEN = {"key_mask": ("keys", "real")} | {
    f"{side[0]}_{value}": (side, value)
    for value, side in product(("segments", "positions", "places", "flags"), ("queries", "keys"))
}
"""What operators call the values of tokens; names of tensors in refusals, too."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What an operator was given."""

    q: Tensor
    k: Tensor
    v: Tensor
    queries: TokenValues
    keys: TokenValues
    groups: tuple[HeadGroup, ...]
    query_start: int
    scale: float
    dropout: float
    seed: Tensor | None
    buckets: Buckets | None = None

    @property
    def extras(self) -> dict[str, Tensor]:
        """The optional tensors that are given; the operators take them in a list, and their names."""
        values = {name: getattr(getattr(self, side), value) for name, (side, value) in PER_TOKEN.items()}
        of_queries, of_keys = (None, None) if self.buckets is None else self.buckets
        values |= {"seed": self.seed, "q_buckets": of_queries, "k_buckets": of_keys}
        return {name: x for name, x in values.items() if x is not None}


Forward = Callable[[Arguments], tuple[Tensor, Tensor]]
Backward = Callable[[Arguments, Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor]]


class Operator:
    """`gossamer::NAME_attention` and its backward.

    `forward(arguments)` gives the output and the log-sum-exp; `backward(arguments, out, lse, grad_out, grad_lse)` the
    gradients of q, k and v. `shares_heads`: it reads fewer key/value heads than query heads as they are, where all
    heads have one pattern; otherwise they are repeated.
    """

    def __init__(self, name: str, forward: Forward, backward: Backward, *, shares_heads: bool = False) -> None:
        self.name, self._forward, self._backward = name, forward, backward
        self.shares_heads = shares_heads
        self.attention = torch.library.custom_op(f"gossamer::{name}_attention", self._run, mutates_args=())
        self.attention_backward = torch.library.custom_op(
            f"gossamer::{name}_attention_backward", self._run_backward, mutates_args=()
        )
        self.attention.register_fake(lambda q, k, v, *rest: empty_outputs(q, v))
        self.attention_backward.register_fake(_empty_gradients)
        self.attention.register_autograd(self._differentiate, setup_context=_save)
        self.attention_backward.register_autograd(self._refuse, setup_context=lambda ctx, inputs, output: None)

    def __call__(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Output [batch, heads, queries, size of v] and log-sum-exp [batch, heads, queries] of the whole pattern."""
        call = self.call(inputs)
        if is_plain_eager(call.q, call.k, call.v):
            return self._forward(call)
        out, lse = self.attention(*_operands(call))
        return out, lse

    def operands(self, inputs: Inputs) -> tuple[Any, ...]:
        """The arguments of the operator."""
        return _operands(self.call(inputs))

    def call(self, inputs: Inputs) -> Arguments:
        """What the kernel is given."""
        groups = inputs.groups or ()
        if not self.shares_heads or len(groups) > 1 or inputs.buckets is not None:
            inputs = inputs.with_repeated_heads()
        return Arguments(
            q=inputs.q, k=inputs.k, v=inputs.v, queries=inputs.queries, keys=inputs.keys, groups=groups,
            query_start=inputs.query_start, scale=inputs.scale, dropout=inputs.dropout, seed=inputs.seed,
            buckets=inputs.buckets,
        )  # fmt: skip

    # No shapes in these types: torch reads the operators' signatures from them.
    def _run(
        self, q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
        names: str, pieces: list[int], query_start: int, scale: float, dropout: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        with autocast_off(q):
            call = _arguments(q, k, v, extras, names, pieces, query_start, scale, dropout)
            _check_memory(call)
            return self._forward(call)

    def _run_backward(
        self, grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor,
        q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
        names: str, pieces: list[int], query_start: int, scale: float, dropout: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        with autocast_off(q):
            call = _arguments(q, k, v, extras, names, pieces, query_start, scale, dropout)
            _check_memory(call, out=out, lse=lse, grad_out=grad_out, grad_lse=grad_lse)
            return self._backward(call, out, lse, grad_out, grad_lse)

    def _differentiate(self, ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Any, ...]:
        out, lse, q, k, v, *extras = ctx.saved_tensors
        grads: tuple[Tensor | None, ...] = (None, None, None)
        if grad_out is not None or grad_lse is not None:
            grad_out = torch.zeros_like(out) if grad_out is None else grad_out
            grads = self.attention_backward(grad_out, grad_lse, out, lse, q, k, v, extras, *ctx.settings)
        return (*grads, [None for _ in extras], *(None for _ in ctx.settings))

    def _refuse(self, ctx: Any, *grads: Tensor | None) -> None:
        raise InputError(
            f"backend {self.name!r} has no second derivative; use backend='reference', which has all of them"
        )


def empty_outputs(q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Uninitialised output and log-sum-exp; the output lies as layers want it, [batch, queries, heads, size]."""
    batch, heads, queries, _ = q.shape
    out = q.new_empty(batch, queries, heads, v.shape[3]).transpose(1, 2)
    return out, q.new_empty(batch, heads, queries, dtype=wide(q))


def needs_plain_operations(inputs: Inputs) -> bool:
    """Whether there are no operators of our own for this call: while exporting, and on devices such as MPS, XLA."""
    return torch.compiler.is_exporting() or inputs.q.device.type not in ("cpu", "cuda")


def why_no_bias(inputs: Inputs) -> str | None:
    """Why what is added to its scores cannot be, or None where nothing is."""
    if inputs.bias is not None:
        return "it takes no bias"
    return None if inputs.distance_bias is None else f"it takes no {inputs.distance_bias.called}"


def why_no_operator(inputs: Inputs) -> str | None:
    """Why no operator of our own computes this call, or None; where there are none, its backend says so."""
    if inputs.groups is None:
        return why_not_pieces(inputs.pattern)
    if why := why_no_bias(inputs):
        return why
    if tracing() or needs_plain_operations(inputs):
        return None
    # Operators have no rules for these: torch would fail, or drop a derivative.
    if in_transform():
        return "it has no rules for the transforms of torch.func"
    if has_tangents(inputs.q, inputs.k, inputs.v):
        return "it has no forward-mode derivative"
    return "torch.jit cannot trace it" if is_jit_traced() else None


def _operands(call: Arguments) -> tuple[Any, ...]:
    extras = call.extras
    settings = (",".join(extras), pieces_to_numbers(call.groups), call.query_start, call.scale, call.dropout)
    return (call.q, call.k, call.v, list(extras.values()), *settings)


def _arguments(
    q: Tensor, k: Tensor, v: Tensor, extras: list[Tensor],
    names: str, pieces: list[int], query_start: int, scale: float, dropout: float,
) -> Arguments:  # fmt: skip
    given = dict(zip(names.split(",") if names else (), extras, strict=True))
    queries, keys = (
        TokenValues(**{value: given[name] for name, (of, value) in PER_TOKEN.items() if of == side and name in given})
        for side in ("queries", "keys")
    )
    return Arguments(
        q=q, k=k, v=v, queries=queries, keys=keys, groups=pieces_from_numbers(pieces), query_start=query_start,
        scale=scale, dropout=dropout, seed=given.get("seed"),
        buckets=(given["q_buckets"], given["k_buckets"]) if "q_buckets" in given else None,
    )  # fmt: skip


def _check_memory(call: Arguments, **others: Tensor | None) -> None:
    """Between a call and its backward pass, or in a compiled program, a tensor's memory may have been given back."""
    tensors = {"q": call.q, "k": call.k, "v": call.v, **call.extras, **others}
    for name, x in tensors.items():
        if x is not None:
            check_storage(name, x)


def _empty_gradients(
    grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: object
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, extras, *ctx.settings = inputs
    ctx.save_for_backward(*output, q, k, v, *extras)
    ctx.set_materialize_grads(False)
