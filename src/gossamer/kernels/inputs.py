"""What one attention call is given, checked once: every backend reads the same `Inputs`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Parameter

from gossamer.errors import InputError, quote
from gossamer.kernels.autocast import in_autocast_dtype
from gossamer.kernels.distance_bias import DistanceBias, RelativeTerms, TableByDistance, read_distance_bias
from gossamer.kernels.hashing import Buckets, make_buckets
from gossamer.kernels.pieces import HeadGroup, compile_pattern
from gossamer.kernels.precision import sum_of_biases
from gossamer.kernels.rings import with_ring_laid_open
from gossamer.kernels.storage import check_tensor
from gossamer.kernels.token_values import UNMARKED, TokenValues
from gossamer.patterns import Chunks, Full, Pattern
from gossamer.patterns.head_groups import groups_of

__all__ = ["Inputs", "TensorOrPair", "make_inputs", "readable", "tracing"]

TensorOrPair = Tensor | tuple[Tensor, Tensor]
"""A table [heads, before + after + 1] and `before`, its column of distance 0; or states of distances."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FURTHEST = 2**30
"""The largest query_start, before the keys or after: distances of tokens then fit into 32 bits."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One call: q [batch, heads, queries, size], k, v [batch, key heads, keys, size or v's own], and values a token.

    `groups` are the pieces of the pattern, compiled once; None where it has none. Places are there for patterns that
    count blocks in documents, where no positions are given: see `read_positions`. Both sides have segments, positions,
    places and flags, or neither. buckets: of queries and keys, of a hashed pattern.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    pattern: Pattern
    groups: tuple[HeadGroup, ...] | None = None
    queries: TokenValues = UNMARKED
    keys: TokenValues = UNMARKED
    query_start: int = 0
    bias: Tensor | None = None
    distance_bias: DistanceBias | RelativeTerms | None = None
    buckets: Buckets | None = None
    scale: float = 1.0
    dropout: float = 0.0
    seed: Tensor | None = None

    @property
    def num_queries(self) -> int:
        return self.q.shape[2]

    @property
    def num_keys(self) -> int:
        return self.k.shape[2]

    @property
    def is_plain(self) -> bool:
        """Whether nothing but flags tells tokens from one another."""
        return self.keys.unmarked

    @property
    def read_positions(self) -> tuple[Tensor, Tensor]:
        """What the pattern reads, [batch or 1, queries] and [batch or 1, keys]: positions, else places, else indices.

        A token's place is its index less that of its document's first token: packed documents are as separate ones.
        """
        of_queries, of_keys, device = self.queries, self.keys, self.q.device
        for q, k in ((of_queries.positions, of_keys.positions), (of_queries.places, of_keys.places)):
            if q is not None and k is not None:
                return q, k
        queries = torch.arange(self.num_queries, device=device)[None] + self.query_start
        return queries, torch.arange(self.num_keys, device=device)[None]

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The table by distance, or the states of distances, where there are any."""
        return () if self.distance_bias is None else self.distance_bias.tensors

    @property
    def sides_of_bias(self) -> tuple[TokenValues, TokenValues]:
        """Queries and keys with what a table by distance reads, where that is not indices.

        Places it does not need: they are as far apart as indices are, wherever two tokens see each other.
        """
        if (bias := self.distance_bias) is None:
            return self.queries, self.keys
        of_queries, of_keys = bias.positions or (self.queries.positions, self.keys.positions)
        if of_queries is None or of_keys is None:
            return self.queries, self.keys
        batch = self.q.shape[0]
        return (
            replace(self.queries, bias_positions=of_queries.expand(batch, -1)),
            replace(self.keys, bias_positions=of_keys.expand(batch, -1)),
        )

    def with_repeated_heads(self) -> Inputs:
        """The same call with as many key/value heads as query heads."""
        group = self.q.shape[1] // self.k.shape[1]
        if group == 1:
            return self
        return replace(self, k=self.k.repeat_interleave(group, 1), v=self.v.repeat_interleave(group, 1))

    def with_whole_bias(self) -> Inputs:
        """The same call with what is added by distance among the bias: a number for every head and pair."""
        given = self.distance_bias
        if given is None:
            return self
        q, k = self.q, self.k
        if given.reads_states:
            k = self.with_repeated_heads().k
            # A product with NaN, though nobody sees it, would be its state's gradient.
            k = k if self.keys.real is None else k.masked_fill(~self.keys.real[:, None, :, None], 0)
        added = given.added(q, k, self.scale, *(given.positions or self.read_positions))
        return replace(self, bias=added if self.bias is None else sum_of_biases(self.bias, added), distance_bias=None)


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
    query_start: int | Tensor = 0,
    bias: Tensor | None = None,
    distance_bias: TableByDistance | None = None,
    buckets: Tensor | Buckets | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int | Tensor | None = None,
) -> Inputs:
    """Check the arguments of `attend` and put them into one form. Raises InputError, which names argument and value."""
    _check_shapes(q, k, v, pattern)
    q, k, v = (in_autocast_dtype(x) for x in (q, k, v))
    _check_kinds(q, k, v)
    if isinstance(pattern, Chunks) and pattern.ring:
        _check_rows("key_mask", key_mask, q.shape[0], k.shape[2], q, boolean=True)
        told = {"positions": positions, "bias": bias, "distance_bias": distance_bias}
        ring = with_ring_laid_open(q, k, v, pattern, key_mask, query_start, segments, told)
        (k, v, pattern, key_mask, query_start, segments), global_mask = ring, None
    batch, queries, keys = q.shape[0], q.shape[2], k.shape[2]
    query_start, starts = _check_starts(query_start, batch, q)
    _check_numbers(query_start, dropout, scale)
    _check_rows("key_mask", key_mask, batch, keys, q, boolean=True)
    if key_mask is not None and readable(key_mask) and bool(key_mask.all()):
        key_mask = None
    _check_rows("global_mask", global_mask, batch, keys, q, boolean=True)
    own = _Own(query_start, starts, queries, keys)
    q_segments, k_segments = _pair("segments", segments, batch, own, q)
    # Distances of small integers would wrap.
    q_positions, k_positions = (None if x is None else x.long() for x in _pair("positions", positions, batch, own, q))
    q_places = k_places = None
    if q_segments is not None and k_segments is not None and q_positions is None and pattern.period != 1:
        q_places, k_places = _places(q_segments, k_segments, query_start if starts is None else starts[:, None])
    if starts is not None and q_positions is None and (pattern != Full() or distance_bias is not None):
        # Offsets of their own are positions of their own; what counts blocks in documents has the places there.
        q_positions, k_positions = (q_places, k_places) if q_places is not None else own.positions(batch, q.device)
    k_flags = global_mask if global_mask is None or key_mask is None else global_mask & key_mask
    q_flags = None if k_flags is None else own.flags(k_flags)
    return Inputs(
        q=q, k=k, v=v, pattern=pattern, groups=compile_pattern(pattern, q.shape[1]),
        queries=TokenValues(segments=q_segments, positions=q_positions, places=q_places, flags=q_flags),
        keys=TokenValues(
            real=key_mask, segments=k_segments, positions=k_positions, places=k_places, flags=k_flags
        ),
        query_start=query_start,
        bias=_check_bias(bias, q, k),
        distance_bias=read_distance_bias(distance_bias, q),
        buckets=_buckets(pattern, q, k, query_start, starts, seed, buckets),
        scale=q.shape[-1] ** -0.5 if scale is None else float(scale),
        dropout=float(dropout),
        seed=_seed(seed, q) if dropout else None,
    )  # fmt: skip


def _buckets(
    pattern: Pattern, q: Tensor, k: Tensor, query_start: int, starts: Tensor | None, seed: int | Tensor | None,
    given: Tensor | Buckets | None,
) -> Buckets | None:  # fmt: skip
    hashes = pattern.hashes
    if hashes is None:
        if given is not None:
            raise InputError(f"buckets were given to '{pattern}', which is not hashed; leave them out")
        return None
    if starts is not None:
        raise InputError("query_start is a tensor, an offset for each text; a hashed pattern takes one for all")
    number = hashes.seed
    if number is None:
        number = 0 if given is not None else int(_seed(seed, q))
    return make_buckets(hashes, q, k, query_start, number, given)


def _check_start(query_start: int) -> None:
    if not isinstance(query_start, int | torch.SymInt) or isinstance(query_start, bool):
        raise InputError(
            f"query_start is {quote(query_start)}; it must be a whole number, where the first query stands among the "
            "keys, or a tensor [batch] of them"
        )
    if not -FURTHEST <= query_start <= FURTHEST:
        raise InputError(f"query_start is {query_start}; it must be from {-FURTHEST} to {FURTHEST}")


def _check_numbers(query_start: int, dropout: float, scale: float | None) -> None:
    _check_start(query_start)
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise InputError(f"dropout is {quote(dropout)}; it must be from 0 up to, not including, 1")
    is_number = scale is None or isinstance(scale, int | float | torch.SymFloat)
    if not is_number or (isinstance(scale, int | float) and not abs(scale) <= sys.float_info.max):
        raise InputError(f"scale is {quote(scale)}; it must be a finite number")


def _check_shapes(q: Tensor, k: Tensor, v: Tensor, pattern: Pattern) -> None:
    _check_pattern(pattern)
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_tensor(name, x)
        if x.ndim != 4:
            raise InputError(f"{name} has shape {list(x.shape)}; it must be [batch, heads, length, head_size]")
        if x.shape[1] == 0 or x.shape[3] == 0:
            raise InputError(f"{name} has shape {list(x.shape)}; it must have one head or more, of size 1 or more")
    if k.shape[:3] != v.shape[:3]:
        raise InputError(f"k has shape {list(k.shape)} and v {list(v.shape)}; all but the head size must be equal")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise InputError(f"q has shape {list(q.shape)} and k {list(k.shape)}; batch and head_size must be equal")
    if q.shape[1] % k.shape[1]:
        raise InputError(f"q has {q.shape[1]} heads and k {k.shape[1]}; the first must be a multiple of the second")
    heads = sum(count for _, count in groups_of(pattern, q.shape[1]))
    if heads != q.shape[1]:
        raise InputError(f"the pattern is for {heads} heads and q has {q.shape[1]}; they must be equal")


def _check_pattern(pattern: Pattern) -> None:
    if not isinstance(pattern, Pattern):
        raise InputError(f"pattern is {pattern!r}; it must be a pattern such as gossamer.Window(256, 256)")
    try:
        hash(pattern)
    except TypeError as problem:
        raise InputError(f"pattern '{pattern}' has a field that is no fixed value ({problem}); take a tuple") from None


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
    check_tensor(name, x)
    if boolean and x.dtype != torch.bool:
        raise InputError(f"{name} is {x.dtype}; it must be boolean: True for the tokens that count (try {name}.bool())")
    if not boolean and (x.dtype.is_floating_point or x.dtype == torch.bool):
        raise InputError(f"{name} is {x.dtype}; it must be an integer tensor")
    if x.device != q.device:
        raise InputError(f"{name} is on {x.device} and q on {q.device}; they must be on one device")
    if tuple(x.shape) != (batch, length):
        raise InputError(f"{name} has shape {list(x.shape)}; it must be [batch, length], here [{batch}, {length}]")


@dataclass(frozen=True)
class _Own:
    """Which keys the queries are themselves: query i is key query_start + i, or with `starts` [batch], starts + i."""

    query_start: int
    starts: Tensor | None
    queries: int
    keys: int

    def positions(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Indices of queries, [batch, queries], and of keys, [batch, keys]."""
        first = self.query_start if self.starts is None else self.starts[:, None]
        at = (torch.arange(self.queries, device=device) + first).expand(batch, -1)
        return at, torch.arange(self.keys, device=device).expand(batch, -1)

    def values(self, x: Tensor) -> Tensor | None:
        """What the queries have of a value for each key [batch, keys]; None where one of them is no key."""
        if self.starts is None:
            first, stop = self.query_start, self.query_start + self.queries
            return x[:, first:stop] if first >= 0 and stop <= self.keys else None
        at, _ = self.positions(len(x), x.device)
        if readable(at) and bool(((at < 0) | (at >= self.keys)).any()):
            return None
        return x.gather(1, at.clamp(0, max(self.keys - 1, 0)))

    def flags(self, x: Tensor) -> Tensor:
        """Flags of the queries, of those of the keys; a query that is no key is not flagged."""
        if self.starts is None:
            before = max(0, min(-self.query_start, self.queries))
            found = x[:, max(0, self.query_start) : max(0, self.query_start + self.queries)]
            after = self.queries - before - found.shape[1]
            return torch.nn.functional.pad(found, (before, after)) if before or after else found
        at, _ = self.positions(len(x), x.device)
        padded = torch.nn.functional.pad(x, (0, 1))
        return padded.gather(1, torch.where((at < 0) | (at >= self.keys), self.keys, at))

    def __str__(self) -> str:
        return str(self.query_start) if self.starts is None else f"offsets {quote(self.starts.tolist())}"


def _check_starts(starts: int | Tensor, batch: int, q: Tensor) -> tuple[int, Tensor | None]:
    """One offset for all rows as a number, else a tensor of them."""
    if not isinstance(starts, Tensor):
        return starts, None
    check_tensor("query_start", starts)
    if starts.shape != (batch,) or starts.dtype.is_floating_point or starts.dtype == torch.bool:
        raise InputError(
            f"query_start is {starts.dtype} of shape {list(starts.shape)}; it must be a whole number, or integers "
            f"[batch], here [{batch}]"
        )
    if starts.device != q.device:
        raise InputError(f"query_start is on {starts.device} and q on {q.device}; they must be on one device")
    if not readable(starts):
        return 0, starts.long()
    listed = starts.tolist()
    for start in listed:
        _check_start(start)
    return (listed[0] if listed else 0, None) if len(set(listed)) <= 1 else (0, starts.long())


def _pair(name: str, x: TensorOrPair | None, batch: int, own: _Own, q: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if x is None:
        return None, None
    if isinstance(x, Tensor):
        _check_rows(name, x, batch, own.keys, q)
        if own.starts is not None and not readable(own.starts):
            raise InputError(
                f"{name} is one tensor and query_start another, which is not looked at while compiling or on another "
                "device; give a (query, key) pair of tensors"
            )
        of_queries = own.values(x)
        if of_queries is None:
            raise InputError(
                f"{name} is one tensor of {own.keys} keys, but the queries, {own.queries} from {own} on, are not all "
                "among them; give a (query, key) pair of tensors"
            )
        return of_queries, x
    if not isinstance(x, tuple) or len(x) != 2:
        raise InputError(f"{name} is a {type(x).__name__}; it must be one tensor or a (query, key) pair of tensors")
    for part, length in zip(x, (own.queries, own.keys), strict=True):
        _check_rows(name, part, batch, length, q)
    return x


def _places(q_segments: Tensor, k_segments: Tensor, query_start: int | Tensor) -> tuple[Tensor, Tensor]:
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


def _check_bias(bias: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    if bias is None:
        return None
    check_tensor("bias", bias)
    full = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
    shape = (1,) * (4 - bias.ndim) + tuple(bias.shape)
    if not 2 <= bias.ndim <= 4 or any(have not in (1, want) for have, want in zip(shape, full, strict=True)):
        raise InputError(
            f"bias has shape {list(bias.shape)}; it must broadcast to {list(full)}: [batch, heads, queries, keys]"
        )
    if not (bias.dtype.is_floating_point or bias.dtype == torch.bool) or bias.device != q.device:
        raise InputError(
            f"bias is {bias.dtype} on {bias.device}; on {q.device} it must be floating-point, added to the scores, or "
            "boolean, True where a query may see a key"
        )
    bias = bias.reshape(shape)
    if bias.dtype == torch.bool:
        return torch.zeros(shape, dtype=q.dtype, device=q.device).masked_fill_(~bias, float("-inf"))
    return bias


def _seed(seed: int | Tensor | None, q: Tensor) -> Tensor:
    if seed is None:
        return torch.randint(0, 2**31 - 1, (), dtype=torch.int64, device="cpu")
    if isinstance(seed, Tensor):
        check_tensor("seed", seed)
        if seed.numel() != 1 or seed.dtype.is_floating_point or seed.dtype == torch.bool:
            raise InputError(f"seed is {seed.dtype} of shape {list(seed.shape)}; it must be one integer")
        return seed.reshape(())
    if not isinstance(seed, int | torch.SymInt) or isinstance(seed, bool):
        raise InputError(f"seed is {seed!r}; it must be an integer")
    # Only 32 bits count (`keep_mask`); larger numbers may not fit into a tensor.
    return torch.tensor(seed % 2**32, dtype=torch.int64)
