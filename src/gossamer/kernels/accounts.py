"""What the primitives, attention and products with weights, tell a ledger: see `gossamer.kernels.ledger`."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gossamer.kernels.backends import backends_for
from gossamer.kernels.distance_bias import DistanceBias, RelativeTerms
from gossamer.kernels.hashing import no_buckets
from gossamer.kernels.inputs import make_inputs
from gossamer.kernels.ledger import ID, WIDE, Ledger, own_frame
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
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    ledger: Ledger,
    dropout: float = 0.0,
    table: Tensor | RelativeTerms | None = None,
    query_start: int = 0,
) -> Tensor:
    """`attend` of the first `ledger.global_tokens` global ones, on the backend that `auto` takes.

    With a mask of keys where `ledger.padded`. table: [heads, distances], of a `distance_bias` whose distances all rows
    of the batch share, or states of these.
    """
    q, k, v = (ledger.in_autocast_dtype(x) for x in (q, k, v))
    batch, heads, queries, size = q.shape
    pairs = batch * count_pairs(pattern, heads, queries, k.shape[2], ledger.global_tokens, query_start)
    flops = 2 * pairs * (size + v.shape[3])
    ledger.count("attention", (pattern, heads, k.shape[1], size, dropout), pairs, flops=flops)
    ledger.here.pair_flops += flops
    name, scratch, kept = _backend(
        pattern,
        q.shape,
        k.shape,
        v.shape,
        q.dtype,
        ledger.device,
        dropout if ledger.training else 0.0,
        by_distance=table,
        padded=ledger.padded,
    )
    ledger.here.backends.add(name)
    if isinstance(table, RelativeTerms):
        return _account_relative(q, k, v, table, ledger, name == "reference", scratch)
    if table is not None and name in ("dense", "reference"):
        return _account_by_distance(q, k, v, table, ledger, name == "reference", scratch)
    read = (q, k, v) if table is None else (q, k, v, table)
    # Gradients are float32 first, and then, where that is another dtype, in theirs.
    narrow = sum(x.numel() for x in (q, k, v)) * WIDE if q.dtype.itemsize < WIDE else 0
    memory = ledger.memory(batch * heads * queries * WIDE + kept)
    return ledger.operation(
        (*q.shape[:3], v.shape[3]), q.dtype, read, saves=(*read, memory), saves_output=True, scratch=scratch,
        backward_bytes=scratch + narrow,
    )  # fmt: skip


def _account_by_distance(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, ledger: Ledger, drops: bool, scratch: int
) -> Tensor:
    """Attention with a number of each head and pair beside its scores; for a table that learns in plain operations.

    drops: on the reference, which has the dropout of the weights.
    """
    batch, heads, queries, _ = q.shape
    pairs, number = queries * k.shape[2], max(q.dtype.itemsize, table.dtype.itemsize, WIDE if drops else 0)
    bias, scores = heads * pairs * number, batch * heads * pairs * number
    learns = ledger.training and table.requires_grad
    is_wider, is_plain = q.dtype.itemsize < number, learns or drops
    read = [
        ledger.memory(x.numel() * heads // x.shape[1] * number) if is_wider or x.shape[1] < heads else x
        for x in (q, k, v)
    ]
    if is_plain and not drops:
        # Queries and keys are scaled, not the scores.
        read[:2] = [ledger.memory(q.numel() * number), ledger.memory(k.numel() * heads // k.shape[1] * number)]
    kept = [ledger.memory(bias), ledger.memory(batch * heads * queries * WIDE)]
    if is_plain:
        kept = [ledger.memory(heads * (pairs + queries)), ledger.memory(scores)]
    if drops:
        kept += [ledger.memory(scores), ledger.memory(batch * heads * pairs)]
    if learns:
        kept.append(ledger.memory(8 * pairs))
    elif is_wider and not is_plain:
        kept.append(ledger.memory(q.numel() // q.shape[3] * v.shape[3] * number))
    return ledger.operation(
        (*q.shape[:3], v.shape[3]), q.dtype, (q, k, v, table), saves=(*read, *kept),
        saves_output=not (is_plain or is_wider), scratch=scratch + 2 * bias + (scores if is_plain else 0),
        backward_bytes=2 * (scores + bias),
    )  # fmt: skip


def _account_relative(
    q: Tensor, k: Tensor, v: Tensor, given: RelativeTerms, ledger: Ledger, drops: bool, scratch: int
) -> Tensor:
    """Attention with what content and states of distances have in common beside its scores, in plain operations.

    drops: on the reference, which has the dropout of the weights.
    """
    batch, heads, queries, _ = q.shape
    dtype = torch.promote_types(q.dtype, torch.float32)
    pairs, number = queries * k.shape[2], dtype.itemsize
    named = ledger.memory(ID * pairs)
    met = [
        _account_met(x, states, dtype, ledger)
        for x, states in ((q, given.keys), (k, given.queries))
        if states is not None
    ]
    added = [ledger.operation((batch, heads, queries, k.shape[2]), dtype, (one,), saves=(named, one)) for one in met]
    bias = added[0] if len(added) == 1 else ledger.add(*added)
    read = [x if drops and x.dtype == dtype else ledger.memory(x.numel() * number) for x in (q, k)]
    read.append(v if v.dtype == dtype else ledger.memory(v.numel() * number))
    flags = batch * heads * pairs
    kept = [ledger.memory(bias.nbytes), ledger.memory(flags)]
    if drops:
        kept += [ledger.memory(bias.nbytes), ledger.memory(flags)]
    return ledger.operation(
        (*q.shape[:3], v.shape[3]), q.dtype, (q, k, v, bias), saves=(*read, *kept), scratch=scratch + 2 * bias.nbytes,
        backward_bytes=2 * bias.nbytes,
    )  # fmt: skip


def _account_met(x: Tensor, states: Tensor, dtype: torch.dtype, ledger: Ledger) -> Tensor:
    """Products of tokens with all states, of which each text has a copy."""
    batch, heads, tokens, size = x.shape
    count = states.shape[1]
    units = batch * heads * tokens * count * size
    ledger.count("maps", (size, count), units, flops=2 * units)
    scaled, copies = x.numel() * dtype.itemsize, batch * states.numel() * dtype.itemsize
    saves = [ledger.memory(kept) for kept, other in ((scaled, states), (copies, x)) if other.requires_grad]
    return ledger.operation((batch, heads, tokens, count), dtype, (x, states), saves=saves, scratch=scaled + copies)


@lru_cache(maxsize=256)
def count_pairs(
    pattern: Pattern, heads: int, queries: int, keys: int, global_tokens: int = 0, query_start: int = 0
) -> int:
    """How many (query, key) pairs one text computes, all heads together; the first `global_tokens` are global.

    query_start: the first query's place among the keys.
    """
    flags = torch.arange(keys) < global_tokens if global_tokens and queries == keys else None
    pairs = pattern.pairs(queries, keys, query_start, flags=flags)
    return pairs if pattern.differs_by_head else pairs * heads


def _backend(
    pattern: Pattern,
    q: torch.Size,
    k: torch.Size,
    v: torch.Size,
    dtype: torch.dtype,
    device: str,
    dropout: float,
    *,
    by_distance: Tensor | RelativeTerms | None,
    padded: bool,
) -> tuple[str, int, int]:
    """The backend that `auto` takes, and the bytes that it holds, and keeps, beside inputs and output."""
    like = torch.empty(1, 1, 1, 1, dtype=dtype, device=device)
    added: DistanceBias | RelativeTerms | None = None
    if isinstance(by_distance, RelativeTerms):
        states, rows = like[0].expand(q[1], 1, q[3]), torch.zeros(1, dtype=torch.int64, device=device)
        added = RelativeTerms(keys=states, queries=None, rows=rows, before=0)
    elif by_distance is not None:
        added = DistanceBias(table=like[0, 0].expand(q[1], 1), before=0)
    key_mask = torch.zeros(1, 1, dtype=torch.bool, device=device).expand(k[0], k[2]) if padded else None
    inputs = make_inputs(
        like.expand(q), like.expand(k), like.expand(v), pattern, key_mask=key_mask, dropout=dropout, seed=0,
        distance_bias=added, buckets=no_buckets(pattern, like.expand(q), like.expand(k)),
    )  # fmt: skip
    name = choose(inputs).backend
    (backend,) = (one for one in backends_for(inputs) if one.name == name)
    return name, backend.scratch(inputs), backend.keeps(inputs)
