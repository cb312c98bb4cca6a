"""What one attention call is given, checked once: every backend reads the same `Inputs`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Parameter

from gossamer.errors import InputError, quote
from gossamer.kernels.autocast import in_autocast_dtype
from gossamer.patterns import Fixed, Pattern, PerHead, Union

__all__ = ["Inputs", "make_inputs", "readable", "tracing"]

TensorOrPair = Tensor | tuple[Tensor, Tensor]

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FURTHEST = 2**30
"""The largest query_start: distances of tokens then fit into 32 bits."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One call: q [batch, heads, queries, size], k, v [batch, key heads, keys, size], and one value a token.

    Places are there for patterns that count blocks in documents, where no positions are given: see `read_positions`.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Pattern
    key_mask: Tensor | None = None
    q_segments: Tensor | None = None
    k_segments: Tensor | None = None
    q_positions: Tensor | None = None
    k_positions: Tensor | None = None
    q_places: Tensor | None = None
    k_places: Tensor | None = None
    q_flags: Tensor | None = None
    k_flags: Tensor | None = None
    query_start: int = 0
    bias: Tensor | None = None
    scale: float = 1.0
    dropout: float = 0.0
    seed: Tensor | None = None

    @property
    def queries(self) -> int:
        return self.q.shape[2]

    @property
    def keys(self) -> int:
        return self.k.shape[2]

    @property
    def read_positions(self) -> tuple[Tensor, Tensor]:
        """What the pattern reads, [batch or 1, queries] and [batch or 1, keys]: positions, else places, else indices.

        A token's place is its index less that of its document's first token: packed documents are as separate ones.
        """
        for q, k in ((self.q_positions, self.k_positions), (self.q_places, self.k_places)):
            if q is not None and k is not None:
                return q, k
        device = self.q.device
        queries = torch.arange(self.queries, device=device)[None] + self.query_start
        return queries, torch.arange(self.keys, device=device)[None]

    def with_repeated_heads(self) -> Inputs:
        """The same call with as many key/value heads as query heads."""
        group = self.q.shape[1] // self.k.shape[1]
        if group == 1:
            return self
        return replace(self, k=self.k.repeat_interleave(group, 1), v=self.v.repeat_interleave(group, 1))


def tracing() -> bool:
    """Whether torch.compile or torch.export is reading this code: values of tensors cannot be looked at then."""
    return torch.compiler.is_compiling()


def readable(x: Tensor) -> bool:
    """Whether a tensor's values can be looked at for free: it is real, in main memory, and nobody traces."""
    return x.device.type == "cpu" and type(x) in (Tensor, Parameter) and not tracing()


def make_inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: Pattern,
    *,
    key_mask: Tensor | None = None,
    segments: TensorOrPair | None = None,
    positions: TensorOrPair | None = None,
    global_mask: Tensor | None = None,
    query_start: int = 0,
    bias: Tensor | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int | Tensor | None = None,
) -> Inputs:
    """Check the arguments of `attend` and put them into one form. Raises InputError, which names argument and value."""
    _check_shapes(q, k, v, pattern)
    q, k, v = (in_autocast_dtype(x) for x in (q, k, v))
    _check_kinds(q, k, v)
    batch, queries, keys = q.shape[0], q.shape[2], k.shape[2]
    _check_numbers(query_start, dropout, scale)
    _check_rows("key_mask", key_mask, batch, keys, q, boolean=True)
    if key_mask is not None and readable(key_mask) and bool(key_mask.all()):
        key_mask = None
    _check_rows("global_mask", global_mask, batch, keys, q, boolean=True)
    q_segments, k_segments = _pair("segments", segments, batch, queries, keys, query_start, q)
    # Distances of small integers would wrap.
    q_positions, k_positions = (
        None if x is None else x.long() for x in _pair("positions", positions, batch, queries, keys, query_start, q)
    )
    q_places = k_places = None
    if q_segments is not None and k_segments is not None and q_positions is None and _counts_blocks(pattern):
        q_places, k_places = _places(q_segments, k_segments, query_start)
    k_flags = global_mask if global_mask is None or key_mask is None else global_mask & key_mask
    return Inputs(
        q=q,
        k=k,
        v=v,
        pattern=pattern,
        key_mask=key_mask,
        q_segments=q_segments,
        k_segments=k_segments,
        q_positions=q_positions,
        k_positions=k_positions,
        q_places=q_places,
        k_places=k_places,
        q_flags=None if k_flags is None else _query_flags(k_flags, query_start, queries),
        k_flags=k_flags,
        query_start=query_start,
        bias=_check_bias(bias, q, k),
        scale=q.shape[-1] ** -0.5 if scale is None else float(scale),
        dropout=float(dropout),
        seed=_seed(seed, q) if dropout else None,
    )


def _check_numbers(query_start: int, dropout: float, scale: float | None) -> None:
    if not isinstance(query_start, int | torch.SymInt) or isinstance(query_start, bool) or query_start < 0:
        raise InputError(
            f"query_start is {quote(query_start)}; it must be a whole number, 0 or more: where the first query stands"
        )
    if query_start > FURTHEST:
        raise InputError(f"query_start is {query_start}; it must be at most {FURTHEST}")
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise InputError(f"dropout is {quote(dropout)}; it must be from 0 up to, not including, 1")
    is_number = scale is None or isinstance(scale, int | float | torch.SymFloat)
    if not is_number or (isinstance(scale, int | float) and not abs(scale) <= sys.float_info.max):
        raise InputError(f"scale is {quote(scale)}; it must be a finite number")


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> None:
    if not isinstance(pattern, Pattern):
        raise InputError(f"pattern is {pattern!r}; it must be a pattern such as gossamer.Window(256, 256)")
    for name, x in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, x)
        if x.ndim != 4:
            raise InputError(f"{name} has shape {list(x.shape)}; it must be [batch, heads, length, head_size]")
        if x.shape[1] == 0 or x.shape[3] == 0:
            raise InputError(f"{name} has shape {list(x.shape)}; it must have one head or more, of size 1 or more")
    if k.shape != v.shape:
        raise InputError(f"k has shape {list(k.shape)} and v {list(v.shape)}; they must be equal")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise InputError(f"q has shape {list(q.shape)} and k {list(k.shape)}; batch and head_size must be equal")
    if q.shape[1] % k.shape[1]:
        raise InputError(f"q has {q.shape[1]} heads and k {k.shape[1]}; the first must be a multiple of the second")
    if isinstance(pattern, PerHead) and pattern.heads != q.shape[1]:
        raise InputError(f"the pattern is for {pattern.heads} heads and q has {q.shape[1]}; they must be equal")


def _check_tensor(name: str, x: object) -> None:
    if not isinstance(x, Tensor):
        raise InputError(f"{name} is {quote(x)}, a {type(x).__name__}; it must be a tensor")
    if x.is_nested or x.layout != torch.strided:
        kind = "nested" if x.is_nested else str(x.layout).removeprefix("torch.")
        raise InputError(f"{name} is a tensor of layout {kind}; it must be an ordinary, dense one")


def _check_kinds(q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dtype != q.dtype or x.device != q.device or x.dtype not in DTYPES:
            raise InputError(
                f"{name} is {x.dtype} on {x.device} and q {q.dtype} on {q.device}; "
                "they must share one device and one of float16, bfloat16, float32 and float64"
            )


def _check_rows(name: str, x: Tensor | None, batch: int, length: int, q: Tensor, boolean: bool = False) -> None:
    if x is None:
        return
    _check_tensor(name, x)
    if boolean and x.dtype != torch.bool:
        raise InputError(f"{name} is {x.dtype}; it must be boolean: True for the tokens that count (try {name}.bool())")
    if not boolean and (x.dtype.is_floating_point or x.dtype == torch.bool):
        raise InputError(f"{name} is {x.dtype}; it must be an integer tensor")
    if x.device != q.device:
        raise InputError(f"{name} is on {x.device} and q on {q.device}; they must be on one device")
    if tuple(x.shape) != (batch, length):
        raise InputError(f"{name} has shape {list(x.shape)}; it must be [batch, length], here [{batch}, {length}]")


def _pair(
    name: str, x: TensorOrPair | None, batch: int, queries: int, keys: int, query_start: int, q: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if x is None:
        return None, None
    if isinstance(x, Tensor):
        _check_rows(name, x, batch, keys, q)
        if query_start + queries > keys:
            raise InputError(
                f"{name} is one tensor of {keys} keys, but the queries stand at {query_start} to "
                f"{query_start + queries - 1}; give a (query, key) pair of tensors"
            )
        return x[:, query_start : query_start + queries], x
    if not isinstance(x, tuple) or len(x) != 2:
        raise InputError(f"{name} is a {type(x).__name__}; it must be one tensor or a (query, key) pair of tensors")
    for part, length in zip(x, (queries, keys), strict=True):
        _check_rows(name, part, batch, length, q)
    return x


def _counts_blocks(pattern: Pattern) -> bool:
    """Whether it matters where position 0 is."""
    if isinstance(pattern, PerHead):
        return any(_counts_blocks(part) for part, _ in pattern.groups)
    parts = pattern.parts if isinstance(pattern, Union) else (pattern,)
    return any(isinstance(part, Fixed) for part in parts)


def _places(q_segments: Tensor, k_segments: Tensor, query_start: int) -> tuple[Tensor, Tensor]:
    """Indices less those of the first key of the same document, [batch, queries] and [batch, keys].

    A query whose document has no key sees nothing, wherever it stands.
    """
    keys = k_segments.shape[1]
    ids, order = k_segments.long().sort(dim=1, stable=True)
    places = []
    for segments, start in ((q_segments, query_start), (k_segments, 0)):
        index = torch.arange(segments.shape[1], device=segments.device) + start
        if keys:
            run = torch.searchsorted(ids, segments.long().contiguous()).clamp(max=keys - 1)
            index = index - order.gather(1, run)
        places.append(index.expand(segments.shape))
    return places[0], places[1]


def _query_flags(k_flags: Tensor, query_start: int, queries: int) -> Tensor:
    """Flags of the queries: query i is the token at key position query_start + i; beyond the keys nobody is flagged."""
    flags = k_flags[:, query_start : query_start + queries]
    missing = queries - flags.shape[1]
    return torch.nn.functional.pad(flags, (0, missing)) if missing else flags


def _check_bias(bias: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    if bias is None:
        return None
    _check_tensor("bias", bias)
    full = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    if bias.ndim != 4 or any(have not in (1, want) for have, want in zip(bias.shape, full, strict=True)):
        raise InputError(
            f"bias has shape {list(bias.shape)}; it must broadcast to {list(full)}: [batch, heads, queries, keys]"
        )
    if not bias.dtype.is_floating_point or bias.device != q.device:
        raise InputError(
            f"bias is {bias.dtype} on {bias.device}; it must be floating-point on {q.device}, added to the scores"
        )
    return bias


def _seed(seed: int | Tensor | None, q: Tensor) -> Tensor:
    if seed is None:
        return torch.randint(0, 2**31 - 1, (), dtype=torch.int64, device="cpu")
    if isinstance(seed, Tensor):
        if seed.numel() != 1 or seed.dtype.is_floating_point or seed.dtype == torch.bool:
            raise InputError(f"seed is {seed.dtype} of shape {list(seed.shape)}; it must be one integer")
        return seed.reshape(())
    if not isinstance(seed, int | torch.SymInt) or isinstance(seed, bool):
        raise InputError(f"seed is {seed!r}; it must be an integer")
    # Only 32 bits count (`keep_mask`); larger numbers may not fit into a tensor.
    return torch.tensor(seed % 2**32, dtype=torch.int64)
