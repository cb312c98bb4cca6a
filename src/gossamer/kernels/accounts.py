"""What the primitives, attention and products with weights, tell a ledger: see `gossamer.kernels.ledger`."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gossamer.kernels.backends import backends_for
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.ledger import WIDE, Ledger, own_frame
from gossamer.kernels.select import choose
from gossamer.patterns import Pattern

__all__ = ["AttentionWork", "account_activation", "account_attention", "account_linear", "count_pairs"]

KEEPS_RESULT = ("relu", "tanh")
"""Activations whose gradient is made of what they gave, not of what they read."""

AttentionWork = tuple[Pattern, int, int, int, float]
"""What the time of a pair depends on: pattern, heads, key heads, size of a head, dropout."""


@own_frame
def account_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    ledger: Ledger,
    activation: str | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """`linear`, which keeps what it reads for a weight that is trained, and the weight for an input that is."""
    outputs, inputs = weight.shape
    read, used = ledger.in_autocast_dtype(x), ledger.in_autocast_dtype(weight)
    units = x.numel() * outputs
    ledger.count("maps", (inputs, outputs), units, flops=2 * units)
    saves = [kept for kept, other in ((read, weight), (used, x)) if other.requires_grad]
    out = ledger.operation(
        (*x.shape[:-1], outputs), used.dtype, (read, weight, *([] if bias is None else [bias])), saves=saves,
        backward_bytes=used.nbytes if used is not weight and weight.requires_grad else 0,
    )  # fmt: skip
    out = out if activation is None else account_activation(activation, out, ledger)
    return out if residual is None else ledger.add(out, residual)


def account_activation(name: str, x: Tensor, ledger: Ledger) -> Tensor:
    """One of `ACTIVATIONS`."""
    ledger.count("activation", name, x.numel())
    if name == "gelu_sigmoid":
        return ledger.operation(x.shape, x.dtype, (x,), saves=(x, ledger.memory(x.nbytes)), backward_bytes=x.nbytes)
    keeps_result = name in KEEPS_RESULT
    return ledger.operation(x.shape, x.dtype, (x,), saves=() if keeps_result else (x,), saves_output=keeps_result)


def account_attention(
    q: Tensor, k: Tensor, v: Tensor, pattern: Pattern, ledger: Ledger, dropout: float = 0.0
) -> Tensor:
    """`attend` of the first `ledger.global_tokens` global ones, without padding, on the backend that `auto` takes."""
    q, k, v = (ledger.in_autocast_dtype(x) for x in (q, k, v))
    batch, heads, queries, size = q.shape
    pairs = batch * count_pairs(pattern, heads, queries, k.shape[2], ledger.global_tokens)
    flops = 2 * pairs * (size + v.shape[3])
    ledger.count("attention", (pattern, heads, k.shape[1], size, dropout), pairs, flops=flops)
    ledger.here.pair_flops += flops
    name, scratch = _backend(
        pattern, q.shape, k.shape, v.shape, q.dtype, ledger.device, dropout if ledger.training else 0.0
    )
    ledger.here.backends.add(name)
    # Gradients are float32 first, and then, where that is another dtype, in theirs.
    narrow = sum(x.numel() for x in (q, k, v)) * WIDE if q.dtype.itemsize < WIDE else 0
    return ledger.operation(
        (*q.shape[:3], v.shape[3]), q.dtype, (q, k, v), saves=(q, k, v, ledger.memory(batch * heads * queries * WIDE)),
        saves_output=True, scratch=scratch, backward_bytes=scratch + narrow,
    )  # fmt: skip


@lru_cache(maxsize=256)
def count_pairs(pattern: Pattern, heads: int, queries: int, keys: int, global_tokens: int = 0) -> int:
    """How many (query, key) pairs one text computes, all heads together; the first `global_tokens` are global."""
    flags = torch.arange(keys) < global_tokens if global_tokens and queries == keys else None
    pairs = pattern.pairs(queries, keys, flags=flags)
    return pairs if pattern.differs_by_head else pairs * heads


def _backend(
    pattern: Pattern, q: torch.Size, k: torch.Size, v: torch.Size, dtype: torch.dtype, device: str, dropout: float
) -> tuple[str, int]:
    """The backend that `auto` takes, and the bytes that it holds beside inputs and output."""
    like = torch.empty(1, 1, 1, 1, dtype=dtype, device=device)
    inputs = make_inputs(like.expand(q), like.expand(k), like.expand(v), pattern, dropout=dropout, seed=0)
    name = choose(inputs).backend
    (backend,) = (one for one in backends_for(inputs) if one.name == name)
    return name, backend.scratch(inputs)
