"""What a model costs, from its description alone: parameters, bytes, FLOPs and memory at any length."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from gossamer.errors import InputError
from gossamer.kernels import explain
from gossamer.models.architecture import Architecture, Attention, FeedForward
from gossamer.models.encoder import Model
from gossamer.patterns import Pattern

__all__ = ["Cost", "PartCost", "cost", "pairs_of_all_heads"]

MASK_BYTES = 11
"""A pair, while a dense mask is made: its distance as a 64-bit number and three flags."""
REFERENCE_SCORES = 3
"""How many numbers a pair and head the reference holds at once."""


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """One part with weights of its own, which a forward pass uses `applications` times (a shared weight set often).

    `flops` counts all its applications; `pair_flops` is the part of them that is attention between tokens.
    """

    name: str
    parameters: int
    applications: int
    flops: int
    pair_flops: int = 0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A forward pass of one text of `length` tokens, `global_tokens` of them flagged.

    FLOPs count 2 a multiply-add; sizes are in bytes. With a multiple-choice head a text is one choice.

    `peak` estimates the memory of inference: all weights, the input of the layer at work, and the largest
    step, which is one of: attention (query, key, value and output of all heads, the projected output, the residual
    sum, what flagged tokens are read with, and what the dense and reference backends take for masks and scores),
    feed-forward (the inner layer before
    and after its activation) or the head's (logits, and what they are made of). `backends` are what attention runs on.
    """

    length: int
    global_tokens: int
    dtype: str
    parts: tuple[PartCost, ...]
    weights: int
    activations: int
    backends: tuple[str, ...]

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def flops(self) -> int:
        return sum(part.flops for part in self.parts)

    @property
    def pair_flops(self) -> int:
        """FLOPs of attention between tokens, 4 * pairs * head_size a head: all that depends on the pattern."""
        return sum(part.pair_flops for part in self.parts)

    @property
    def peak(self) -> int:
        return self.weights + self.activations

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, totals included."""
        totals = {name: getattr(self, name) for name in ("parameters", "flops", "pair_flops", "peak")}
        return {**dataclasses.asdict(self), **totals}


def cost(
    architecture: Architecture, length: int, *, dtype: torch.dtype = torch.float32, global_tokens: int = 0
) -> Cost:
    """What reading one text of `length` tokens takes, `global_tokens` of them flagged (the first ones).

    Of the FLOPs, linear maps and pairs of tokens are counted, as in `torch.utils.flop_counter`; norms, activations and
    table look-ups are not. Pairs are the pattern's own, the useful work: a backend may compute some more. Raises
    InputError for a length below 1 or more global tokens than that.
    """
    if type(length) is not int or length < 1:
        raise InputError(f"length is {length!r}; it must be a number of tokens, at least 1")
    if type(global_tokens) is not int or not 0 <= global_tokens <= length:
        raise InputError(f"global_tokens is {global_tokens!r}; it must be from 0 to the length, {length}")
    parts = tuple(_parts(architecture, length, global_tokens))
    backends = _backends(architecture, length, dtype)
    return Cost(
        length=length,
        global_tokens=global_tokens,
        dtype=str(dtype).removeprefix("torch."),
        parts=parts,
        weights=sum(part.parameters for part in parts) * dtype.itemsize,
        activations=_activations(architecture, length, global_tokens, dtype.itemsize, backends),
        backends=tuple(sorted(set(backends.values()))),
    )


def pairs_of_all_heads(attention: Attention, length: int, global_tokens: int = 0) -> int:
    """How many (query, key) pairs one application computes, all heads together."""
    flags = torch.arange(length) < global_tokens if global_tokens else None
    pairs = attention.pattern.pairs(length, flags=flags)
    return pairs if attention.pattern.differs_by_head else pairs * attention.heads


def _parts(architecture: Architecture, n: int, flagged: int) -> Iterator[PartCost]:
    """Each part of the model, which is built without memory of its own to be asked for its parameters."""
    hidden, embeddings = architecture.hidden_size, architecture.embeddings
    with torch.device("meta"):
        model = Model(architecture)

    def part(name: str, flops: int, *, applications: int = 1, pair_flops: int = 0) -> PartCost:
        parameters = sum(one.numel() for one in model.get_submodule(name).parameters())
        return PartCost(name=name, parameters=parameters, applications=applications, flops=flops, pair_flops=pair_flops)

    yield part("embeddings", 2 * n * embeddings.size * hidden if embeddings.projection else 0)
    for i, attentions in enumerate(_by_weights(one.attention for one in architecture.layers)):
        maps, pairs = _attention_flops(attentions, hidden, n, flagged)
        yield part(f"attention.{i}", maps + pairs, applications=len(attentions), pair_flops=pairs)
    for i, networks in enumerate(_by_weights(one.feed_forward for one in architecture.layers)):
        yield part(f"feed_forward.{i}", _feed_forward_flops(networks, hidden, n), applications=len(networks))
    if model.final_norm is not None:
        yield part("final_norm", 0)
    if model.pooler is not None:
        runs = architecture.head is None
        yield part("pooler", 2 * hidden * hidden if runs else 0, applications=int(runs))
    if model.head is not None and architecture.head is not None:
        yield part("head", architecture.head.flops(architecture, n))


def _by_weights(applications: Iterable[Any]) -> list[list[Any]]:
    """Applications of each weight set, in the sets' order."""
    sets: dict[int, list[Any]] = {}
    for one in applications:
        sets.setdefault(one.weights, []).append(one)
    return [sets[weights] for weights in sorted(sets)]


def _attention_flops(attentions: list[Attention], hidden: int, n: int, flagged: int) -> tuple[int, int]:
    """Of the linear maps, and of the pairs of tokens, of all applications of one weight set."""
    one = attentions[0]
    maps = 2 * n * hidden * (2 * one.inner + 2 * one.key_inner)
    pairs = sum(4 * one.head_size * pairs_of_all_heads(each, n, flagged) for each in attentions)
    if one.global_projections and flagged:
        # Flagged rows are read once more: their own query, every token's key and value, all pairs of the two.
        maps += 2 * hidden * (flagged * one.inner + 2 * n * one.key_inner)
        pairs += len(attentions) * 4 * one.inner * flagged * n
    return len(attentions) * maps, pairs


def _feed_forward_flops(networks: list[FeedForward], hidden: int, n: int) -> int:
    maps = 3 if networks[0].gated else 2
    return len(networks) * maps * 2 * n * hidden * networks[0].width


def _backends(architecture: Architecture, n: int, dtype: torch.dtype) -> dict[Pattern, str]:
    """The backend that `auto` takes for each pattern, one text without padding."""
    shapes = {one.attention.pattern: one.attention for one in architecture.layers}
    found = {}
    for pattern, one in shapes.items():
        q = torch.empty(1, 1, 1, 1, dtype=dtype).expand(1, one.heads, n, one.head_size)
        k = q[:, : one.key_heads]
        found[pattern] = explain(q, k, k, pattern).backend
    return found


def _activations(architecture: Architecture, n: int, flagged: int, itemsize: int, backends: dict[Pattern, str]) -> int:
    """Bytes of activations at the peak: see `Cost`."""
    hidden = architecture.hidden_size
    networks = [one.feed_forward for one in architecture.layers]
    steps = [n * ((3 if one.gated else 2) * one.width + hidden) * itemsize for one in networks]
    for attention in {one.attention for one in architecture.layers}:
        square = _square_bytes(attention, n, itemsize, backends[attention.pattern])
        inner, key_inner = attention.inner, attention.key_inner
        own = 2 * inner + 2 * key_inner
        # Flagged rows: every token's key and value once more, and a copy of the output to write theirs into.
        widest = max(own + 2 * hidden, own + inner + 2 * key_inner if attention.global_projections and flagged else 0)
        steps.append(n * widest * itemsize + square)
    if architecture.head is not None:
        steps.append(architecture.head.held(architecture, n) * itemsize)
    return n * hidden * itemsize + max(steps)


def _square_bytes(attention: Attention, n: int, itemsize: int, backend: str) -> int:
    """What grows with the square of the length: a dense mask, or the scores of the reference."""
    if backend == "reference":
        return REFERENCE_SCORES * attention.heads * n * n * max(itemsize, 4)
    if backend != "dense" or attention.pattern.covers(n, n):
        return 0
    masks = attention.heads if attention.pattern.differs_by_head else 1
    return n * n * max(MASK_BYTES, masks * (itemsize + 1))
