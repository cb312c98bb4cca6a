"""What a model attended to: captured while it reads, weights computed on demand, never n x n."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.kernels import attend, explain
from gossamer.kernels.autocast import in_autocast_dtype
from gossamer.kernels.weights import (
    Bins,
    Rows,
    TopKeys,
    WeightSums,
    attention_rows,
    check_count,
    choose_rows,
    refuse_unshown,
    top_keys,
    weight_sums,
)
from gossamer.layers import CrossAttention, SelfAttention, TokenInfo
from gossamer.models import Attention, Model
from gossamer.patterns import Pattern

__all__ = ["CapturedAttention", "Part", "attention_settings", "capture", "parts_of"]

Part = Literal["main", "decoder", "cross"]
"""Attention of a model's own layers; of a second text's decoder to its own tokens; and to the first text's."""

MEAN_WEIGHTS = 2**22
"""Weights that are held at once to be averaged over heads."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One attention call: what it was given, and the log-sum-exp that its backend gave (None: it gives none)."""

    q: Tensor
    k: Tensor
    pattern: Pattern
    backend: str
    options: dict[str, Any]
    lse: Tensor | None

    def rows(self, rows: Rows) -> Tensor:
        return attention_rows(self.q, self.k, self.pattern, rows, lse=self.lse, **self.options)

    def top_keys(self, count: int, rows: Rows | None) -> TopKeys:
        return top_keys(self.q, self.k, self.pattern, count, rows=rows, lse=self.lse, **self.options)

    def sums(self, bins: Bins, rows: Tensor) -> WeightSums:
        return weight_sums(self.q, self.k, self.pattern, bins, rows=rows, lse=self.lse, **self.options)

    @property
    def bytes(self) -> int:
        kept = (self.q, self.k, *([] if self.lse is None else [self.lse]))
        return sum(one.numel() * one.element_size() for one in kept)


@dataclass(kw_only=True)
class _Layer:
    """The calls of one applied layer. `silent` are tokens that read nothing: padding, beside global projections."""

    every: _Call
    tokens: TokenInfo
    silent: Tensor | None
    flagged: _Call | None = None

    def indices(self, rows: Rows | None) -> Int[Tensor, "batch rows"]:
        q = self.every.q
        return choose_rows(rows, q.shape[0], q.shape[2], q.device)

    def calls(self) -> list[_Call]:
        return [self.every] if self.flagged is None else [self.every, self.flagged]


class CapturedAttention:
    """What a model attended to in the last batch that it read under `capture`; weights are computed when asked for.

    Layers are numbered as in `architecture.layers` (`part` "main"), or as in those of the decoder of a second text,
    shared weights or not; negative numbers count from the last. Of each, q and k are kept in the model's dtype, and the
    log-sum-exp in float32: with H heads of size S, (2 S dtype bytes + 4) H bytes a token. Where flagged tokens are read
    with global projections, S H dtype bytes a token more, and the queries of the flagged ones.
    """

    def __init__(
        self, model: Model, layers: Sequence[int] | None, *, learns: bool = False, part: Part = "main",
        each: Callable[[int], object] | None = None,
    ) -> None:  # fmt: skip
        self._each = each
        self._learns, self._tokenizer = learns, model.tokenizer
        self._settings = attention_settings(model, part)
        count = len(self._settings)
        # Layers without heads attend to nothing.
        self._attending = [i for i, one in enumerate(self._settings) if one.heads]
        self._wanted = set(range(count) if layers is None else map(self._number, layers))
        self._kept: dict[int, _Layer] = {}
        self._tokens: TokenInfo | None = None
        self._next = 0
        self._thread = threading.get_ident()

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were captured."""
        return tuple(self._kept)

    @property
    def backends(self) -> dict[int, tuple[str, ...]]:
        """What computed each layer: its attention, and that of flagged tokens with projections of their own, if any."""
        return {i: tuple(call.backend for call in one.calls()) for i, one in self._kept.items()}

    @property
    def bytes(self) -> int:
        """The memory that is kept."""
        return sum(call.bytes for one in self._kept.values() for call in one.calls())

    def global_tokens(self, layer: int) -> Bool[Tensor, "batch keys"] | None:
        """Keys that were flagged as global, None where a layer was told of none."""
        flags: Tensor | None = self._layer(layer).every.options.get("global_mask")
        return flags

    def rows(self, layer: int, rows: Rows) -> Float[Tensor, "batch heads rows length"]:
        """The exact weights of chosen tokens, [batch, heads, rows, length]; all of them as in `attention_rows`.

        Rows of tokens that have global projections are those of these projections. Padding beside global projections
        reads nothing: its rows are 0. Raises InputError for a layer that was not captured and for rows there are not.
        """
        one = self._layer(layer)
        found, at = one.every.rows(rows), one.indices(rows)
        if one.flagged is not None:
            flags, place = _flagged(one, at)
            found = torch.where(flags[:, None, :, None], one.flagged.rows(place), found)
        if one.silent is None:
            return found
        silent = one.silent.gather(1, at)[:, None, :, None]
        # In place, unless the gradients of the weights read them as they are.
        return found.masked_fill(silent, 0) if found.requires_grad else found.masked_fill_(silent, 0)

    def top_keys(self, layer: int, count: int = 8, rows: Rows | None = None) -> TopKeys:
        """The `count` tokens that each one (or chosen `rows`) attends to most, [batch, heads, rows, count].

        As `gossamer.kernels.top_keys` gives them, global projections and padding as in `rows`.
        """
        one = self._layer(layer)
        found, at = one.every.top_keys(count, rows), one.indices(rows)
        weights, keys = found.weights, found.keys
        if one.flagged is not None:
            flags, place = _flagged(one, at)
            new = one.flagged.top_keys(count, None if rows is None else place)
            # Of all tokens few are flagged: each of those once, then to its place.
            index = place if rows is None else torch.arange(place.shape[1], device=place.device).expand_as(place)
            index, flags = index[:, None, :, None].expand(weights.shape), flags[:, None, :, None]
            weights = torch.where(flags, new.weights.gather(2, index), weights)
            keys = torch.where(flags, new.keys.gather(2, index), keys)
        if one.silent is not None:
            silent = one.silent.gather(1, at)[:, None, :, None]
            weights, keys = weights.masked_fill(silent, 0), keys.masked_fill(silent, -1)
        return TopKeys(weights=weights, keys=keys)

    def sums(self, layer: int, bins: Bins) -> WeightSums:
        """The exact weights of all tokens summed up by `bins`, where one text was read; InputError where more were."""
        one = self._layer(layer)
        if len(one.every.q) > 1:
            raise InputError(f"{len(one.every.q)} texts were read; sums are of one: read one at a time")
        silent, flags = one.silent, None if one.flagged is None else cast(Tensor, one.tokens.global_mask)
        reads = torch.ones(one.every.q.shape[2], dtype=torch.bool, device=one.every.q.device)
        reads = reads if silent is None else reads & ~silent[0]
        if one.flagged is None or flags is None:
            return one.every.sums(bins, reads.nonzero()[:, 0])
        places = flags[0].nonzero()[:, 0]
        own = replace(bins, queries=bins.queries[places], kind=lambda rows, keys: bins.kind(places[rows], keys))
        return one.every.sums(bins, (reads & ~flags[0]).nonzero()[:, 0]) + one.flagged.sums(
            own, torch.arange(len(places), device=places.device)
        )

    def mean_top_keys(self, layer: int, count: int = 8, rows: Rows | None = None) -> TopKeys:
        """The same for weights averaged over the heads, [batch, 1, rows, count]; a block of rows at a time."""
        texts, heads, length, _ = self._layer(layer).every.q.shape
        check_count(count)
        parts = []
        for at in self._layer(layer).indices(rows).split(max(1, MEAN_WEIGHTS // (texts * heads * length)), dim=1):
            mean = torch.nn.functional.pad(self.rows(layer, at).mean(1, keepdim=True), (0, count))
            best = mean.sort(dim=-1, descending=True, stable=True)
            weights, keys = best.values[..., :count], best.indices[..., :count]
            parts.append((weights, keys.masked_fill(weights == 0, -1)))
        weights, keys = (torch.cat(one, dim=2) for one in zip(*parts, strict=True))
        return TopKeys(weights=weights, keys=keys)

    def in_words(
        self, found: TopKeys, input_ids: Int[Tensor, "batch length"], rows: Rows | None = None
    ) -> list[list[dict[str, Any]]]:
        """Keys that were found (for these `rows`) with their strings, JSON-ready: a list a text, a dictionary a row.

        Each is `{"row", "token", "heads"}`; `heads` lists, for every head, `{"key", "token", "weight"}` by falling
        weight. Raises InputError where the model has no tokenizer.
        """
        if self._tokenizer is None:
            raise InputError("the model has no tokenizer, so its tokens have no strings; read found.keys")
        chosen = choose_rows(rows, input_ids.shape[0], input_ids.shape[1], input_ids.device).tolist()
        return [
            _in_words(self._tokenizer.tokens(ids), found.weights[i], found.keys[i], at)
            for i, (ids, at) in enumerate(zip(input_ids.tolist(), chosen, strict=True))
        ]

    def attending(self, tokens: TokenInfo, flagged: bool) -> Callable[..., Tensor]:
        """Called by the layers while they are watched: `attend`, or its stand-in that keeps what it is given."""
        if threading.get_ident() != self._thread:
            return attend
        if tokens is not self._tokens:  # another forward pass
            self._tokens, self._next = tokens, 0
            self._kept.clear()
        if not flagged:
            self.tell()
        self._next += not flagged
        layer = self._attending[self._next - 1]
        return partial(self._keep, layer, tokens, flagged) if layer in self._wanted else attend

    def tell(self) -> None:
        """Hand on what is kept by now, where somebody asked for each layer, and drop it."""
        if self._each is not None:
            for layer in list(self._kept):
                self._each(layer)
                del self._kept[layer]

    def _keep(
        self, layer: int, tokens: TokenInfo, flagged: bool, q: Tensor, k: Tensor, v: Tensor, pattern: Pattern,
        *, dropout: float, seed: int | None = None, **options: Any,
    ) -> Tensor:  # fmt: skip
        refuse_unshown(pattern)
        # The seed is not drawn twice, and the backend is the one that would run unwatched.
        backend = explain(q, k, v, pattern, **options, dropout=dropout, seed=0).backend
        lse = None
        if backend == "dense":
            out = attend(q, k, v, pattern, **options, dropout=dropout, seed=seed, backend=backend)
        else:
            out, lse = attend(q, k, v, pattern, **options, dropout=dropout, seed=seed, backend=backend, return_lse=True)
        given = options.get("distance_bias")
        if given is not None and not (self._learns and given.reads_states):
            # A weight, which a training may change before anybody asks.
            options["distance_bias"] = given.detached()
        q, k = (q, k) if self._learns else (q.detach(), k.detach())
        call = _Call(
            q=in_autocast_dtype(q), k=in_autocast_dtype(k), pattern=pattern, backend=backend,
            options=options, lse=None if lse is None else lse.detach(),
        )  # fmt: skip
        if flagged:
            self._kept[layer].flagged = call
        else:
            own_rows = self._settings[layer].global_projections and tokens.key_mask is not None
            silent = ~cast(Tensor, tokens.key_mask) if own_rows else None
            self._kept[layer] = _Layer(every=call, tokens=tokens, silent=silent)
        return out

    def _number(self, layer: int) -> int:
        count = len(self._settings)
        if type(layer) is not int or not -count <= layer < count:
            raise InputError(f"layer is {quote(layer)}; the model has {count}, numbered from 0 to {count - 1}")
        return layer % count

    def _layer(self, layer: int) -> _Layer:
        number = self._number(layer)
        if not self._settings[number].heads:
            raise InputError(f"layer {number} has no heads, so its tokens attend to nothing; name another")
        if number not in self._kept:
            kept = ", ".join(map(str, self._kept)) or "none: the model has read nothing since, or ran compiled"
            raise InputError(f"layer {number} was not captured (captured: {kept}); name it in layers")
        return self._kept[number]

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy of a watched model is not watched.
        return type(None), ()


def _in_words(
    tokens: list[str],
    weights: Float[Tensor, "heads rows count"],
    keys: Int[Tensor, "heads rows count"],
    rows: list[int],
) -> list[dict[str, Any]]:
    told = []
    for row, *lists in zip(rows, weights.transpose(0, 1).tolist(), keys.transpose(0, 1).tolist(), strict=True):
        heads = [
            [{"key": key, "token": tokens[key], "weight": weight} for weight, key in zip(*one, strict=True) if key >= 0]
            for one in zip(*lists, strict=True)
        ]
        told.append({"row": row, "token": tokens[row], "heads": heads})
    return told


def parts_of(model: Model) -> tuple[Part, ...]:
    """The parts whose attention can be captured."""
    return get_args(Part) if model.decoder is not None else ("main",)


def attention_settings(model: Model, part: Part) -> list[Attention]:
    """What each layer of the part attends by."""
    described = model.architecture
    if part == "main" or described.decoder is None:
        return [one.attention for one in described.layers]
    if part == "decoder":
        return [one.attention for one in described.decoder.layers]
    return [one.cross_attention for one in described.decoder.layers if one.cross_attention is not None]


def _modules(model: Model, part: Part) -> list[SelfAttention | CrossAttention]:
    if part == "main" or model.decoder is None:
        found: Any = model.attention
    else:
        found = model.decoder.attention if part == "decoder" else model.decoder.cross_attention
    return list(found)


@contextmanager
def capture(
    model: Model, layers: Sequence[int] | None = None, *, learns: bool = False, part: Part = "main",
    each: Callable[[int], object] | None = None,
) -> Iterator[CapturedAttention]:  # fmt: skip
    """While it lasts, keep what the model's attention works with: of all layers, or of those named.

    part: "main", the model's own layers; of a model of two texts "decoder", whose tokens attend to the second text, or
    "cross", the same tokens to the first one. Each may be captured at the same time.

    each: called with the number of every layer when it was read, while the model reads on; what is kept of it is
    dropped then, so that memory does not grow with the layers.

    learns: the weights of `rows` have gradients to the model's, as long as the graph of its forward pass is there.
    The captured weights outlive the block. Outputs are the same to the last bit; where nobody captures, nothing is
    done. Only calls by this thread count, and only the last batch is kept. Raises InputError for what is no model, for
    layers that there are not, for a model that is being captured already, and for a compiled one: compiled code is
    never watched, so what runs through `torch.compile(model)` is not captured.
    """
    if not isinstance(model, Model):
        raise InputError(f"model is a {type(model).__name__}; give a gossamer model, as it was before torch.compile")
    if model._compiled_call_impl is not None:
        raise InputError("the model was compiled by model.compile(); capture one that was not, such as gs.load's")
    if learns and model.architecture.reversible != "no":
        raise InputError("the model's residuals are reversible, so that nothing of its attention is kept to learn from")
    if part not in parts_of(model):
        raise InputError(f"part is {quote(part)}; this model has {', '.join(parts_of(model))}")
    found = CapturedAttention(model, layers, learns=learns, part=part, each=each)
    watched = dict.fromkeys(_modules(model, part))
    if any(one.hook is not None for one in watched):
        raise InputError("the model's attention is being captured already; end that first")
    for one in watched:
        one.hook = found
    try:
        yield found
        found.tell()
    finally:
        for one in watched:
            del one.hook


def _flagged(layer: _Layer, at: Int[Tensor, "batch rows"]) -> tuple[Tensor, Tensor]:
    """Which of these tokens are flagged, and which query of the flagged call each is (0 for others), [batch, rows]."""
    flags = cast(Tensor, layer.tokens.global_mask)
    chosen = flags.gather(1, at)
    return chosen, (flags.cumsum(1) - 1).gather(1, at).masked_fill(~chosen, 0)
