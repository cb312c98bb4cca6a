"""The graph of a decoder: new tokens and what is kept of earlier ones in, their scores and what is kept now out.

Names and order are those of the exporters of `transformers`: input_ids, attention_mask, past_key_values.N.key and
.value; logits, present.N.key and .value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.exporting.graph import MOST_CHECKED, Case, Graph, Named, Run, draw_ids
from gossamer.kernels import attend
from gossamer.kernels.distance_bias import DistanceBias
from gossamer.layers import TokenInfo
from gossamer.models import Attention, Layer, Model
from gossamer.models.cache import StackCache
from gossamer.models.stack import run_layers
from gossamer.patterns import Pattern
from gossamer.patterns.head_groups import groups_of

__all__ = ["Step", "kept_tokens"]

EXAMPLE = (2, 3, 5)
"""Texts, new tokens and earlier ones that the graph is traced with."""


def kept_tokens(attention: Attention, longest: int) -> int | None:
    """How many earlier tokens a layer's next ones can see: all of a window's; None: every one.

    A pattern that also keeps cells (Fixed, Sink) keeps every token here.
    """
    kept = [part.among(longest).keeps() for part, _ in groups_of(attention.pattern, attention.heads)]
    if any(one.recent is None or one.cells for one in kept):
        return None
    return max(1, *(cast(int, one.recent) - 1 for one in kept))


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """Of all tokens so far, [batch, total]: which are real, and their positions; the last `new` of them are new."""

    real: Bool[Tensor, "batch total"]
    positions: Int[Tensor, "batch total"]
    new: int

    def last(self, count: int) -> tuple[Bool[Tensor, "batch count"], Int[Tensor, "batch count"]]:
        """The last `count` places; those before the first token are not real."""
        at = torch.arange(count, device=self.real.device) + (self.real.shape[1] - count)
        there = at.clamp(min=0)
        return self.real[:, there] & (at >= 0), self.positions[:, there]


class _Memory:
    """Of one layer: what was kept of earlier tokens, and after `attend` what is to be kept (a `KeyValueCache`)."""

    def __init__(self, keys: Tensor, values: Tensor, kept: int | None, tokens: _Tokens) -> None:
        self.keys, self.values, self._kept, self._tokens = keys, values, kept, tokens

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        pattern: Pattern,
        tokens: TokenInfo,
        scale: float | None,
        distance_bias: DistanceBias | None,
    ) -> Float[Tensor, "batch heads new size"]:
        """All pairs of new tokens and what is kept, masked by positions: a long prompt is read in pieces."""
        k, v = torch.cat([self.keys, k], 2), torch.cat([self.values, v], 2)
        new = self._tokens.new
        real, of_keys = self._tokens.last(k.shape[2])
        _, of_queries = self._tokens.last(new)
        self.keys, self.values = (k, v) if self._kept is None else (k[:, :, new:], v[:, :, new:])
        return attend(q, k, v, pattern, key_mask=real, positions=(of_queries, of_keys), scale=scale)


class _Memories:
    """What `run_layers` asks of a cache."""

    holds_other_states = False

    def __init__(self, memories: Sequence[_Memory]) -> None:
        self.memories = memories

    def cross_memory(self, layer: Layer) -> None:
        """Nothing: there is one text."""

    def finish(self) -> None:
        """Nothing is counted."""


class _Module(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        longest = model.architecture.length
        self.kept = [kept_tokens(one.attention, longest) for one in model.architecture.layers]

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        architecture, real = self.model.architecture, attention_mask.bool()
        tokens = _Tokens(real=real, positions=(real.cumsum(1) - 1).clamp(min=0), new=input_ids.shape[1])
        _, positions = tokens.last(tokens.new)
        memories = [
            _Memory(keys, values, kept, tokens)
            for keys, values, kept in zip(past[::2], past[1::2], self.kept, strict=True)
        ]
        words = self.model.embeddings(input_ids, None, positions + architecture.embeddings.positions.offset, None)
        states = run_layers(
            self.model, architecture.layers, words, TokenInfo(positions=positions),
            cache=cast(StackCache, _Memories(memories)), reversible=architecture.reversible,
        )  # fmt: skip
        presents = [one for memory in memories for one in (memory.keys, memory.values)]
        return self.model.scores(states[-1]), *presents


class Step(Graph):
    """Inputs: input_ids [batch, new], attention_mask [batch, total] of all tokens so far, and each layer's cache.

    A cache is [batch, key heads, past, head size], empty at first; under a window it is of as many tokens as that sees,
    zeros at first. Texts shorter than others of a batch are padded on the left. Outputs: logits of the new tokens
    [batch, new, vocabulary], and the caches of the next call, in their order.
    """

    kind = "decoder-step"

    def __init__(self, model: Model) -> None:
        self.model = model
        self.module = self._module = _Module(model).eval()
        architecture, dtype = model.architecture, str(next(model.parameters()).dtype).removeprefix("torch.")
        self.inputs = (
            Named(name="input_ids", dtype="int64", shape=("batch", "new")),
            Named(name="attention_mask", dtype="int64", shape=("batch", "total")),
            *self._caches("past_key_values", "past", dtype),
        )
        size = architecture.embeddings.vocabulary_size
        logits = Named(name="logits", dtype=dtype, shape=("batch", "new", size))
        self.outputs = (logits, *self._caches("present", "total", dtype))
        longest = architecture.length
        self.bounds = {"batch": (1, 2**16), "new": (1, longest), "total": (1, longest), "past": (0, longest)}

    @property
    def notes(self) -> list[str]:
        """That caches of windows have a fixed size."""
        kept = sorted({one for one in self._module.kept if one is not None})
        sizes = ", ".join(f"{one:,}" for one in kept)
        return [f"the caches of windows are of {sizes} tokens, zeros at first"] if kept else []

    def _caches(self, stem: str, past: str, dtype: str) -> Iterator[Named]:
        for i, (layer, kept) in enumerate(zip(self.model.architecture.layers, self._module.kept, strict=True)):
            one = layer.attention
            shape = ("batch", one.key_heads or one.heads, past if kept is None else kept, one.head_size)
            yield from (Named(name=f"{stem}.{i}.{what}", dtype=dtype, shape=shape) for what in ("key", "value"))

    def _empty(self, batch: int, past: int = 0) -> list[Tensor]:
        dtype = next(self.model.parameters()).dtype
        sizes = {"batch": batch, "past": past}
        shapes = [[sizes[size] if isinstance(size, str) else size for size in one.shape] for one in self.inputs[2:]]
        return [torch.zeros(shape, dtype=dtype) for shape in shapes]

    def example(self) -> tuple[Tensor, ...]:
        batch, new, past = EXAMPLE
        ids = draw_ids(self.model, (batch, new), torch.ones(batch, new, dtype=torch.bool), seed=0)
        return (ids, torch.ones(batch, past + new, dtype=torch.int64), *self._empty(batch, past))

    def cases(self, run: Run) -> Iterator[Case]:
        longest = min(self.model.architecture.length, MOST_CHECKED)
        window = max((one for one in self._module.kept if one is not None), default=0)
        length = min(longest, max(2 * window + 7, 40))
        yield from self._case(run, [length], [1] * min(3, length) + [length - 3], seed=1)
        shorter = [max(1, length - less) for less in (0, 2, length // 2)]
        first = max(1, length // 2)
        yield from self._case(run, shorter, [first, 1, 1, length - first - 2], seed=2)

    def _case(self, run: Run, lengths: list[int], pieces: list[int], seed: int) -> Iterator[Case]:
        """Texts of these lengths, read in pieces of so many tokens, beside each of them read alone and at once."""
        longest, batch = max(lengths), len(lengths)
        real = torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]
        ids = draw_ids(self.model, (batch, longest), real, seed)
        found, past, start = [], self._empty(batch), 0
        for piece in [one for one in pieces if one > 0]:
            stop = start + piece
            logits, *past = run([ids[:, start:stop], real[:, :stop].long(), *past])
            found.append(logits)
            start = stop
        with torch.no_grad():
            alone = [cast(Tensor, self.model(ids[i : i + 1, longest - n :]).logits) for i, n in enumerate(lengths)]
        wanted = torch.cat([F.pad(one, (0, 0, longest - one.shape[1], 0)) for one in alone])
        said = f"logits of {batch} x {longest:,} in {len(found)} pieces"
        yield Case(said=said, found=torch.cat(found, 1), wanted=wanted, real=real)
