"""The one public call: attention of q over k and v under a pattern, on the backend that suits."""

from __future__ import annotations

from typing import Literal, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.kernels import call_cache
from gossamer.kernels.autocast import autocast_off
from gossamer.kernels.backends import backends_for
from gossamer.kernels.distance_bias import TableByDistance
from gossamer.kernels.documents import each_damaged_apart
from gossamer.kernels.hashing import Buckets, no_buckets
from gossamer.kernels.inputs import Inputs, TensorOrPair, make_inputs
from gossamer.kernels.select import Explanation, choose
from gossamer.patterns import Pattern

__all__ = ["attend", "explain"]

Queries = Float[Tensor, "batch heads queries size"]
Keys = Float[Tensor, "batch key_heads keys size"]
Values = Float[Tensor, "batch key_heads keys value_size"]
Output = Float[Tensor, "batch heads queries value_size"]
KeyFlags = Bool[Tensor, "batch keys"]


@overload
def attend(
    q: Queries, k: Keys, v: Values, pattern: Pattern, *, key_mask: KeyFlags | None = ...,
    segments: TensorOrPair | None = ..., positions: TensorOrPair | None = ..., global_mask: KeyFlags | None = ...,
    query_start: int | Tensor = ..., bias: Tensor | None = ..., distance_bias: TableByDistance | None = ...,
    buckets: Tensor | Buckets | None = ..., scale: float | None = ..., dropout: float = ...,
    seed: int | Tensor | None = ..., backend: str = ..., return_lse: Literal[False] = ...,
) -> Output: ...  # fmt: skip
@overload
def attend(
    q: Queries, k: Keys, v: Values, pattern: Pattern, *, key_mask: KeyFlags | None = ...,
    segments: TensorOrPair | None = ..., positions: TensorOrPair | None = ..., global_mask: KeyFlags | None = ...,
    query_start: int | Tensor = ..., bias: Tensor | None = ..., distance_bias: TableByDistance | None = ...,
    buckets: Tensor | Buckets | None = ..., scale: float | None = ..., dropout: float = ...,
    seed: int | Tensor | None = ..., backend: str = ..., return_lse: Literal[True],
) -> tuple[Output, Float[Tensor, "batch heads queries"]]: ...  # fmt: skip
def attend(
    q: Queries,
    k: Keys,
    v: Values,
    pattern: Pattern,
    *,
    key_mask: KeyFlags | None = None,
    segments: TensorOrPair | None = None,
    positions: TensorOrPair | None = None,
    global_mask: KeyFlags | None = None,
    query_start: int | Tensor = 0,
    bias: Tensor | None = None,
    distance_bias: TableByDistance | None = None,
    buckets: Tensor | Buckets | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int | Tensor | None = None,
    backend: str = "auto",
    return_lse: bool = False,
) -> Output | tuple[Output, Float[Tensor, "batch heads queries"]]:
    """Attention under a pattern: softmax(q k^T scale + bias) v over the keys that each query may see.

    Args:
        q: [batch, heads, queries, head_size].
        k: [batch, key heads, keys, head_size]; fewer key heads are shared by as many neighbouring query heads.
        v: [batch, key heads, keys, value_size]; the output has this size, which may be another than head_size.
        pattern: who may attend to whom.
        key_mask: boolean [batch, keys], True for real tokens; padded keys reach no row, whatever they hold.
        segments: integer document ids [batch, keys], or a (query, key) pair; nobody, global or not, sees another one.
        positions: integers [batch, keys], or a (query, key) pair, which the pattern reads instead of indices.
        global_mask: boolean [batch, keys]: the tokens that `Global()` means; padding never counts.
        query_start: index of the first query among the keys, below 0 before them; or integers [batch], one a text.
        bias: added to the scores, or booleans, True = may see; broadcast to [batch, heads, queries, keys].
        distance_bias: (table [heads, before + after + 1], before): added by distance, key less query, up to its ends.
        buckets: of a hashed pattern, integers [batch, heads, rounds, keys], or, without chunks, a (query, key) pair.
        scale: of the scores; 1 / sqrt(head_size of q) unless given.
        dropout: rate at which probabilities are dropped; which ones depends on (seed, batch, head, query, key) alone.
        seed: of the dropout, and of rotations that have none of their own; drawn from torch's generator unless given.
        backend: "auto", "reference", "dense", "blocked" or "cpu"; see `explain`.
        return_lse: also return each row's log-sum-exp, [batch, heads, queries], in float32 or wider, differentiable.

    A row with nothing to see gives zeros, log-sum-exp -inf and zero gradients. Where segments are given, NaN and
    infinity stay in their document (not while tracing, nor under the transforms of torch.func).

    Raises InputError for a shape, dtype, device or value that does not fit, or a backend that cannot compute the call.
    Source: Vaswani et al. 2017, section 3.2.1; windows and global tokens: Longformer (arXiv 2004.05150), section 3.1.
    """
    options = (key_mask, segments, positions, global_mask, bias, distance_bias, buckets, seed)
    is_cacheable = all(one is None for one in options) and call_cache.is_cacheable(query_start, dropout, scale, backend)
    key = call_cache.cache_key(q, k, v, pattern, scale, backend, return_lse) if is_cacheable else None
    if key is not None and (prepared := call_cache.lookup(key)) is not None:
        return _asked_for(prepared(q, k, v), return_lse)
    inputs = make_inputs(
        q, k, v, pattern, key_mask=key_mask, segments=segments, positions=positions, global_mask=global_mask, seed=seed,
        query_start=query_start, bias=bias, distance_bias=distance_bias, buckets=buckets, scale=scale, dropout=dropout,
    )  # fmt: skip
    chosen = choose(inputs, backend, return_lse).backend
    if key is not None and chosen == "cpu":
        call_cache.store(key, inputs)
    return _run(inputs, chosen, return_lse)


def explain(
    q: Queries,
    k: Keys,
    v: Values,
    pattern: Pattern,
    *,
    key_mask: KeyFlags | None = None,
    segments: TensorOrPair | None = None,
    positions: TensorOrPair | None = None,
    global_mask: KeyFlags | None = None,
    query_start: int | Tensor = 0,
    bias: Tensor | None = None,
    distance_bias: TableByDistance | None = None,
    buckets: Tensor | Buckets | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int | Tensor | None = None,
    backend: str = "auto",
    return_lse: bool = False,
) -> Explanation:
    """Which backend `attend` would take for this call, and why not the others; arguments and errors as there."""
    buckets = no_buckets(pattern, q, k) if buckets is None else buckets
    inputs = make_inputs(
        q, k, v, pattern, key_mask=key_mask, segments=segments, positions=positions, global_mask=global_mask, seed=seed,
        query_start=query_start, bias=bias, distance_bias=distance_bias, buckets=buckets, scale=scale, dropout=dropout,
    )  # fmt: skip
    return choose(inputs, backend, return_lse)


def _run(inputs: Inputs, name: str, return_lse: bool) -> Tensor | tuple[Tensor, Tensor]:
    (backend,) = (one for one in backends_for(inputs) if one.name == name)
    with autocast_off(inputs.q):
        found = each_damaged_apart(inputs, backend.run, "qkv" if _learns(inputs) else backend.lets_out)
    return _asked_for(found, return_lse)


def _asked_for(found: tuple[Tensor, Tensor | None], return_lse: bool) -> Tensor | tuple[Tensor, Tensor]:
    out, lse = found
    return (out, lse) if return_lse and lse is not None else out


def _learns(inputs: Inputs) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in (inputs.q, inputs.k, inputs.v, *inputs.tables))
