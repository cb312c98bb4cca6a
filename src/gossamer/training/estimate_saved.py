"""What autograd keeps from the forward pass to the backward pass, part by part, and what the backward pass adds.

The formulas count the tensors that `torch.autograd.graph.saved_tensors_hooks` reports; a test compares them, byte for
byte. With T tokens, width D, attention I = heads * head_size wide, feed-forward W, s bytes a number of the residual
stream and a of the linear maps (less than s under autocast), a layer keeps

    attention     T (D s  norm's input  +  D s or, under autocast, 3 D a  what query, key and value read
                     +  4 I a  query, key, value, output  +  4 heads  log-sum-exp)
    feed-forward  T (D s  +  D a  +  2 W a  before and after the activation)

and 8 bytes a token for each norm's mean and deviation, the masks of dropout, and under autocast the weights once more
in a bytes. Of fewer key heads, keys and values are narrower; rotary positions add their cosines and sines, once; a gate
adds T 2 W a, and under autocast T D a; an RMS norm adds T D s, what it gives before its weight. A part that is computed
again keeps its input alone, T D s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from gossamer.errors import InputError, quote
from gossamer.models.architecture import Architecture, Attention, FeedForward, Layer, Norm
from gossamer.models.heads import CausalLM, MaskedLM, PreTraining
from gossamer.models.next_token import TILE_COLUMNS, TILE_SCORES
from gossamer.models.settings import NORMS_AT, NormPlace

__all__ = ["ID", "WIDE", "Part", "Pass", "is_tied", "parts_of"]

ID = 8
"""Bytes of a token's id."""
WIDE = 4
"""Bytes of a number in float32, in which gradients of attention, norms' statistics and losses are kept."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One micro-batch: `rows` texts of `length` tokens, weights of a dtype, linear maps in `autocast`'s where given."""

    rows: int
    length: int
    weights: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    device: str = "cpu"

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def stream(self) -> int:
        """Bytes of a number between the parts."""
        return self.weights.itemsize

    @property
    def inner(self) -> int:
        """Bytes of a number inside of linear maps."""
        return (self.autocast or self.weights).itemsize

    def mask(self, rate: float, itemsize: int) -> int:
        """Bytes of one number's dropout mask: the CPU keeps it in the dtype of what is dropped, GPUs as a flag."""
        return 0 if not rate else itemsize if self.device == "cpu" else 1


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part's bytes: `kept` from its forward to its backward pass, and the most at once while each of these runs.

    `forward` and `backward` count what it keeps, as far as it is there by then. `cached`: the weights that autocast
    holds in its dtype until the forward pass ends, where the part itself does not keep them. `gradients` are those of
    its weights; `owner` names the weight set.
    """

    kind: str
    owner: str
    kept: int
    forward: int
    backward: int
    cached: int = 0


def parts_of(architecture: Architecture, step: Pass) -> list[Part]:
    """The parts in the order of the forward pass.

    Raises InputError for a head that no objective trains, and for bricks that are not reckoned.
    """
    _check_reckoned(architecture)
    parts = [_embeddings(architecture, step)]
    seen: set[str] = set()
    for layer in architecture.layers:
        for part in (_attention(architecture, layer, step), _feed_forward(architecture, layer, step)):
            # Autocast makes one copy of each weight, which all applications share.
            parts.append(_without_weights(part, architecture, layer, step) if part.owner in seen else part)
            seen.add(part.owner)
    if architecture.final_norm is not None:
        width = step.tokens * architecture.hidden_size * step.stream
        kept = width + 2 * WIDE * step.tokens + _normalised(architecture.final_norm, width)
        parts.append(Part(kind="norm", owner="final_norm", kept=kept, forward=kept + width, backward=kept + 2 * width))
    return [*parts, _head(architecture, step)]


def _check_reckoned(architecture: Architecture) -> None:
    for i, layer in enumerate(architecture.layers):
        if layer.attention.query_key_norm is not None:
            raise InputError(
                f"layers[{i}].attention.query_key_norm is {quote(layer.attention.query_key_norm)}, which is not "
                "reckoned: train it without an estimate"
            )


def _embeddings(architecture: Architecture, step: Pass) -> Part:
    settings, tokens = architecture.embeddings, step.tokens
    width = tokens * settings.size * step.stream
    tables = len(settings.positions.axes) if settings.positions.axes else int(settings.positions.rows > 0)
    ids = ID * (tokens + step.length * tables)
    kept = ids + tokens * settings.size * step.mask(settings.dropout, step.stream) + _rotations(architecture, step)
    if settings.norm is not None:
        kept += width + 2 * WIDE * tokens + _normalised(settings.norm, width)
    out = tokens * architecture.hidden_size * step.inner
    if settings.projection:
        kept += tokens * settings.size * step.inner + _weights(step, settings.size * architecture.hidden_size)
    # The gradient of a table is dense: it is made whole, then added to what the loss gave the same table.
    table = settings.vocabulary_size * settings.size * step.stream if is_tied(architecture) else 0
    return Part(
        kind="embeddings",
        owner="embeddings",
        kept=kept,
        forward=kept + 2 * width + out,
        backward=kept + 2 * width + table,
    )


def _rotations(architecture: Architecture, step: Pass) -> int:
    """The cosines and sines of rotary positions, which all layers that turn alike share."""
    attentions = [one.attention for one in architecture.layers]
    kinds = {(one.rotary.columns(one.head_size), one.rotary.base) for one in attentions if one.rotary is not None}
    return sum(columns * step.length * step.inner for columns, _ in kinds)


def _normalised(norm: Norm, width: int) -> int:
    """What an RMS norm keeps beside its input, `width` bytes, too: torch computes it in several steps on a CPU."""
    return width if norm.kind == "rms" else 0


def is_tied(architecture: Architecture) -> bool:
    """Whether the head reads the word table."""
    return isinstance(architecture.head, CausalLM | MaskedLM | PreTraining) and architecture.head.tied


def _attention(architecture: Architecture, layer: Layer, step: Pass) -> Part:
    one, tokens = layer.attention, step.tokens
    width, inner, key_inner = tokens * architecture.hidden_size, tokens * one.inner, tokens * one.key_inner
    read = width * step.stream if step.autocast is None else 3 * width * step.inner
    weights = _weights(step, _attention_weights(architecture, one))
    held = read + 2 * (inner + key_inner) * step.inner + WIDE * tokens * one.heads + weights
    dropped = width * step.mask(one.residual_dropout, _dropped(layer, layer.norm_places[0], step))
    # While the kernel's backward runs: the gradients of the sum and of the output, and those of q, k and v, in float32
    # and, where that is another dtype, in theirs.
    gradients = (inner + 2 * key_inner) * (WIDE + (step.inner if step.inner < WIDE else 0))
    backward = held + width * step.stream + inner * step.inner + gradients
    return _part("attention", f"attention.{one.weights}", layer, step, width, held, dropped, backward, weights)


def _feed_forward(architecture: Architecture, layer: Layer, step: Pass) -> Part:
    one, width = layer.feed_forward, step.tokens * architecture.hidden_size
    middle = step.tokens * one.width * step.inner
    weights = _weights(step, _feed_forward_weights(architecture, one))
    # Under autocast each map that reads the input makes a copy of it.
    reads = 2 if one.gated and step.autocast is not None else 1
    numbers = {"relu": 1, "gelu_sigmoid": 3}.get(one.activation, 2) + (2 if one.gated else 0)
    held = reads * width * step.inner + numbers * middle + weights
    held += step.tokens * one.width * step.mask(one.dropout, step.inner)
    dropped = width * step.mask(one.residual_dropout, _dropped(layer, layer.norm_places[1], step))
    # While the second map's backward runs, or the activation's: one more gradient of the middle; of a gate, one more.
    gradients = (2 if one.activation == "relu" else 1) + (1 if one.gated else 0)
    backward = held + width * (step.stream + step.inner) + gradients * middle
    return _part("feed_forward", f"feed_forward.{one.weights}", layer, step, width, held, dropped, backward, weights)


def _part(
    kind: str, owner: str, layer: Layer, step: Pass, width: int, held: int, dropped: int, backward: int, weights: int
) -> Part:
    """One half of a layer. `held` is kept by its maps, `dropped` by the dropout of its output; `width` is T D."""
    stream, place = width * step.stream, layer.norm_places[kind == "feed_forward"]
    norm = 2 * WIDE * step.tokens + _normalised(layer.norm, stream)
    kept = held + dropped + NORMS_AT[place] * norm + (stream if place != "none" else 0)
    kept += width * _output_number(layer.norm, step) if place == "both" else 0
    forward = kept + stream + width * step.inner
    # At first the gradients of the output and of the sum stand beside all that was kept; norm and dropout are done with
    # theirs before the maps begin.
    backward = max(kept + 2 * stream, backward)
    if layer.recompute not in (kind, "both"):
        return Part(kind=kind, owner=owner, kept=kept, forward=forward, backward=backward)
    # The input stays until the whole part is done; without autocast it is one of the tensors that the part keeps.
    twice = 0 if step.autocast is None and place in ("post", "none") else stream
    return Part(
        kind=kind, owner=owner, kept=stream, forward=forward + twice, backward=backward + twice + stream, cached=weights
    )


def _dropped(layer: Layer, place: NormPlace, step: Pass) -> int:
    """Bytes of a number of a part's output where it is dropped: of a sandwich, what the second norm gives."""
    return _output_number(layer.norm, step) if place == "both" else step.inner


def _output_number(norm: Norm, step: Pass) -> int:
    """Bytes of a number in the norm of a part's output: autocast widens it but for a layer norm on a CPU."""
    return step.inner if norm.kind == "layer" and step.device == "cpu" else step.stream


def _without_weights(part: Part, architecture: Architecture, layer: Layer, step: Pass) -> Part:
    """The same part where another application already holds the weights in autocast's dtype."""
    if part.kind == "attention":
        weights = _weights(step, _attention_weights(architecture, layer.attention))
    else:
        weights = _weights(step, _feed_forward_weights(architecture, layer.feed_forward))
    if part.cached:
        return replace(part, cached=0)
    return replace(part, kept=part.kept - weights, forward=part.forward - weights)


def _attention_weights(architecture: Architecture, one: Attention) -> int:
    return architecture.hidden_size * 2 * (one.inner + one.key_inner)


def _feed_forward_weights(architecture: Architecture, one: FeedForward) -> int:
    return architecture.hidden_size * one.width * (3 if one.gated else 2)


def _weights(step: Pass, count: int) -> int:
    """Bytes of weights in autocast's dtype."""
    return 0 if step.autocast is None else count * step.inner


def _head(architecture: Architecture, step: Pass) -> Part:
    match architecture.head:
        case CausalLM():
            return _causal_head(architecture, step)
        case MaskedLM() | PreTraining() as head:
            return _masked_head(architecture, head, step)
        case head:
            kind = "no head" if head is None else f"the head {head.kind!r}"
            raise InputError(f"the model has {kind}; training is reckoned for the heads 'causal-lm' and 'masked-lm'")


def _causal_head(architecture: Architecture, step: Pass) -> Part:
    """The loss in tiles: states, targets and every row's normalizer are kept; scores are made again."""
    tokens, size = step.tokens, architecture.hidden_size
    rows = architecture.embeddings.vocabulary_size
    columns = min(rows, TILE_COLUMNS)
    tile = min(tokens, max(1, TILE_SCORES // columns)) * columns
    copies = (tokens + rows) * size * step.inner if step.inner != step.stream else 0
    narrow = tile * step.inner if step.inner < WIDE else 0
    kept = tokens * (size * step.stream + ID + WIDE)
    made = WIDE * size * tokens
    return Part(
        kind="loss", owner="head", kept=kept, forward=kept + copies + 2 * WIDE * tile + narrow,
        backward=kept + copies + made + 3 * WIDE * tile + narrow,
    )  # fmt: skip


def _masked_head(architecture: Architecture, head: MaskedLM | PreTraining, step: Pass) -> Part:
    """Dense, activation, norm, all scores, and their log-softmax; a relu's result is its norm's input."""
    tokens, size = step.tokens, architecture.embeddings.size
    rows, activated = architecture.embeddings.vocabulary_size, {"relu": 1, "gelu_sigmoid": 3}.get(head.activation, 2)
    scores, wide = tokens * rows * step.inner, tokens * rows * max(step.inner, WIDE)
    weights = _weights(step, architecture.hidden_size * size + size * rows)
    kept = tokens * (architecture.hidden_size + (activated + 1) * size) * step.inner + 2 * WIDE * tokens
    kept += weights + wide + ID * tokens  # the log-softmax is made in float32
    # While the loss is made the scores themselves are there too; then the gradients of log-softmax and scores.
    forward = kept + scores + (wide if scores < wide else 0)
    return Part(kind="loss", owner="head", kept=kept, forward=forward, backward=kept + 2 * wide + weights)
