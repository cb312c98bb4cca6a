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
from gossamer.kernels.distance_bias import DistanceBias
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
    for value, side in product(("segments", "positions", "places", "flags", "bias_positions"), ("queries", "keys"))
}
"""What operators call the values of tokens; names of tensors in refusals, too."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What an operator was given.

    table: [heads, distances], of a `distance_bias`; `before` is its column of distance 0.
    """

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
    table: Tensor | None = None
    before: int = 0

    @property
    def extras(self) -> dict[str, Tensor]:
        """The optional tensors that are given; the operators take them in a list, and their names."""
        values = {name: getattr(getattr(self, side), value) for name, (side, value) in PER_TOKEN.items()}
        of_queries, of_keys = (None, None) if self.buckets is None else self.buckets
        values |= {"seed": self.seed, "q_buckets": of_queries, "k_buckets": of_keys}
        return {name: x for name, x in values.items() if x is not None}


Forward = Callable[[Arguments], tuple[Tensor, Tensor]]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor | None]
Backward = Callable[[Arguments, Tensor, Tensor, Tensor, Tensor | None, bool], Gradients]


class Operator:
    """`gossamer::NAME_attention` and its backward.

    `forward(arguments)` gives the output and the log-sum-exp; `backward(arguments, out, lse, grad_out, grad_lse,
    table_learns)` the gradients of q, k and v, and of the table where that learns. `shares_heads`: it reads fewer
    key/value heads than query heads as they are, where all heads have one pattern; otherwise they are repeated.
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
        if is_plain_eager(call.q, call.k, call.v, *(() if call.table is None else (call.table,))):
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
        queries, keys = inputs.sides_of_bias
        bias = inputs.distance_bias
        table, before = (bias.table, bias.before) if isinstance(bias, DistanceBias) else (None, 0)
        return Arguments(
            q=inputs.q, k=inputs.k, v=inputs.v, queries=queries, keys=keys, groups=groups,
            query_start=inputs.query_start, scale=inputs.scale, dropout=inputs.dropout, seed=inputs.seed,
            buckets=inputs.buckets, table=table, before=before,
        )  # fmt: skip

    # No shapes in these types: torch reads the operators' signatures from them.
    def _run(
        self, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, extras: list[Tensor],
        names: str, pieces: list[int], query_start: int, scale: float, dropout: float, before: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        with autocast_off(q):
            call = _arguments(q, k, v, table, extras, names, pieces, query_start, scale, dropout, before)
            _check_memory(call)
            return self._forward(call)

    def _run_backward(
        self, grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor,
        q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, extras: list[Tensor],
        names: str, pieces: list[int], query_start: int, scale: float, dropout: float, before: int,
        table_learns: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        with autocast_off(q):
            call = _arguments(q, k, v, table, extras, names, pieces, query_start, scale, dropout, before)
            _check_memory(call, out=out, lse=lse, grad_out=grad_out, grad_lse=grad_lse)
            *grads, of_table = self._backward(call, out, lse, grad_out, grad_lse, table_learns)
            # An operator gives a tensor, whatever there is to tell.
            return grads[0], grads[1], grads[2], q.new_empty(0) if of_table is None else of_table

    def _differentiate(self, ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Any, ...]:
        out, lse, q, k, v, table, *extras = ctx.saved_tensors
        learns = table is not None and ctx.table_learns
        grads: tuple[Tensor | None, ...] = (None, None, None, None)
        if grad_out is not None or grad_lse is not None:
            grad_out = torch.zeros_like(out) if grad_out is None else grad_out
            given = (q, k, v, table, extras, *ctx.settings, learns)
            *grads_of_tokens, of_table = self.attention_backward(grad_out, grad_lse, out, lse, *given)
            grads = (*grads_of_tokens, of_table if learns else None)
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


def why_no_bias(inputs: Inputs, *, takes_table: bool = False) -> str | None:
    """Why what is added to its scores cannot be, or None where nothing is that it does not take."""
    if inputs.bias is not None:
        return "it takes no bias"
    bias = inputs.distance_bias
    return None if bias is None or (takes_table and not bias.reads_states) else f"it takes no {bias.called}"


def why_no_operator(inputs: Inputs) -> str | None:
    """Why no operator of our own computes this call, or None; where there are none, its backend says so."""
    if inputs.groups is None:
        return why_not_pieces(inputs.pattern)
    if why := why_no_bias(inputs, takes_table=inputs.buckets is None):
        return why
    if tracing() or needs_plain_operations(inputs):
        return None
    # Operators have no rules for these: torch would fail, or drop a derivative.
    if in_transform():
        return "it has no rules for the transforms of torch.func"
    if has_tangents(inputs.q, inputs.k, inputs.v, *inputs.tables):
        return "it has no forward-mode derivative"
    return "torch.jit cannot trace it" if is_jit_traced() else None


def _operands(call: Arguments) -> tuple[Any, ...]:
    extras = call.extras
    numbers = (call.query_start, call.scale, call.dropout, call.before)
    settings = (",".join(extras), pieces_to_numbers(call.groups), *numbers)
    return (call.q, call.k, call.v, call.table, list(extras.values()), *settings)


def _arguments(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, extras: list[Tensor],
    names: str, pieces: list[int], query_start: int, scale: float, dropout: float, before: int,
) -> Arguments:  # fmt: skip
    given = dict(zip(names.split(",") if names else (), extras, strict=True))
    queries, keys = (
        TokenValues(**{value: given[name] for name, (of, value) in PER_TOKEN.items() if of == side and name in given})
        for side in ("queries", "keys")
    )
    return Arguments(
        q=q, k=k, v=v, queries=queries, keys=keys, groups=pieces_from_numbers(pieces), query_start=query_start,
        scale=scale, dropout=dropout, seed=given.get("seed"),
        buckets=(given["q_buckets"], given["k_buckets"]) if "q_buckets" in given else None, table=table, before=before,
    )  # fmt: skip


def _check_memory(call: Arguments, **others: Tensor | None) -> None:
    """Between a call and its backward pass, or in a compiled program, a tensor's memory may have been given back."""
    tensors = {"q": call.q, "k": call.k, "v": call.v, "the table": call.table, **call.extras, **others}
    for name, x in tensors.items():
        if x is not None:
            check_storage(name, x)


def _empty_gradients(
    grad_out: Tensor, grad_lse: Tensor | None, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor,
    table: Tensor | None, *rest: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    *_, table_learns = rest
    of_table = q.new_empty(0) if table is None or not table_learns else table.new_empty(table.shape)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), of_table


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, table, extras, *ctx.settings = inputs
    ctx.table_learns = table is not None and table.requires_grad
    ctx.save_for_backward(*output, q, k, v, table, *extras)
    ctx.set_materialize_grads(False)
