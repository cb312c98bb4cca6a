"""What a model is: a frozen description with one entry per applied layer. Every saving is a field of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from gossamer.errors import InputError, quote
from gossamer.models.bricks import (
    Attention,
    DistanceTable,
    Embeddings,
    FeedForward,
    Norm,
    Positions,
    RelativePositions,
    Rotary,
    StoredMaps,
    require_norm,
)
from gossamer.models.checks import (
    MOST_LAYERS,
    MOST_ROWS,
    require,
    require_choice,
    require_count,
    require_flag,
    require_positive,
    require_rate,
)
from gossamer.models.decoder_stack import Decoder, check_decoder_layers, settle_length
from gossamer.models.heads import CausalLM, Head, QuestionAnswering, Seq2SeqLM, SequenceClassification
from gossamer.models.layer import Layer, check_weight_sets
from gossamer.models.old_descriptions import with_length, with_norms
from gossamer.models.reading import (
    build,
    read_decoder,
    read_embeddings,
    read_head,
    read_layers,
    read_norm,
    read_object,
    read_storages,
)
from gossamer.models.settings import Reversible
from gossamer.settings import plain_fields

__all__ = [
    "Architecture",
    "Attention",
    "Decoder",
    "DistanceTable",
    "Embeddings",
    "FeedForward",
    "GlobalTokens",
    "Layer",
    "Norm",
    "Positions",
    "RelativePositions",
    "Rotary",
    "StoredMaps",
    "check_weight_sets",
    "differences",
    "of_any_layer",
]

Recompute = Literal["nothing", "attention", "feed_forward", "both"]
Initializer = Literal["normal", "gpt2", "sparse-transformer", "mimetic"]
GlobalTokens = Literal["first", "none"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A whole encoder or decoder; with a `decoder` both. `layers` lists the *applications* in order.

    `length`: how many tokens it reads at once; 0: as many as its tables have positions for, which it may not exceed.
    `pooler` is BERT's tanh layer on the first token. `global_tokens`: what sees and is seen by everything where no
    `global_mask` is given, beside the tokens that `transformers` takes for the head: "first", the first token of every
    text, or "none". `separator_id`: the token between two texts, by which those of the head are found. With
    a `final_norm` the last states are normalised (where layers do so before each part). `initializer` is how fresh
    weights are drawn: see `gossamer.models.initial`. `storages`: the linear maps whose weights are not kept whole.
    `reversible`: states are two streams, of which attention reads one and adds to the other, and the feed-forward the
    other way round, so that training keeps none of them: a layer's input is computed from its output (Reformer, section
    3). In the end their "mean" is read, or both, "concatenated", as Reformer has it, which heads are twice as wide for.
    `slice_length`: longer texts go through each part in slices of so many tokens, each with what its pattern lets it
    see of those around it, so that nothing but the states is ever there of all tokens.
    `decoder`: the stack that writes a second text and attends to what these layers make of the first; all else is said
    of these layers alone. `final_dropout` is of the last states, after the `final_norm` (T5).
    """

    hidden_size: int
    embeddings: Embeddings
    layers: tuple[Layer, ...]
    pooler: bool = False
    head: Head | None = None
    initializer_range: float = 0.02
    separator_id: int | None = None
    global_tokens: GlobalTokens = "none"
    final_norm: Norm | None = None
    initializer: Initializer = "normal"
    storages: tuple[StoredMaps, ...] = ()
    length: int = 0
    reversible: Reversible = "no"
    slice_length: int | None = None
    final_dropout: float = 0.0
    decoder: Decoder | None = None

    def __post_init__(self) -> None:
        require_count(self, "hidden_size")
        require_choice(self, Reversible, "reversible")
        if self.reversible != "no":
            self._check_reversible()
        if self.slice_length is not None:
            self._check_slices()
        require_choice(self, Initializer, "initializer")
        require_choice(self, GlobalTokens, "global_tokens")
        read = self.global_tokens == "none" or self.takes_global_tokens
        require(read, "global_tokens", self.global_tokens, "'none' where no layer's pattern has global tokens")
        require_norm(self, "final_norm")
        require_flag(self, "pooler")
        require_positive(self, "initializer_range", zero=True)
        require(0 < len(self.layers) <= MOST_LAYERS, "number of layers", len(self.layers), f"from 1 to {MOST_LAYERS}")
        size = self.embeddings.size
        fits = size == self.hidden_size or self.embeddings.projection
        require(fits, "embeddings.size", size, f"the hidden_size, {self.hidden_size}, unless there is a projection")
        last, separator = self.embeddings.vocabulary_size - 1, self.separator_id
        known = separator is None or (type(separator) is int and 0 <= separator <= last)
        require(known, "separator_id", separator, f"a token id from 0 to {last}, or None")
        check_weight_sets(self.layers)
        for i, layer in enumerate(self.layers):
            allowed = "None: a model of one text has no other states to attend to"
            require(layer.cross_attention is None, f"layers[{i}].cross_attention", layer.cross_attention, allowed)
        settle_length(self, self.embeddings)
        if isinstance(self.head, CausalLM):
            self._check_decoder(self.head)
        if self.initializer == "mimetic":
            self._check_mimetic()
        require_rate(self, "final_dropout")
        self._check_second_text()

    def _check_second_text(self) -> None:
        decoder, head = self.decoder, self.head
        if decoder is not None and head is not None and head.kind == "embed":
            raise InputError(
                "head is 'embed', and of a model that reads one text and writes another no vector is taken: take an "
                "encoder, such as BERT or MPNet"
            )
        with_decoder = isinstance(head, Seq2SeqLM | SequenceClassification | QuestionAnswering) or head is None
        fits = with_decoder if decoder is not None else not isinstance(head, Seq2SeqLM)
        names = "'seq2seq-lm', 'sequence-classification', 'question-answering' or None"
        allowed = f"{names} with a decoder, and not 'seq2seq-lm' without one"
        require(fits, "head", None if head is None else head.kind, allowed)
        if decoder is None:
            allowed = "0 without a decoder: layers of one text have dropouts of their own"
            require(self.final_dropout == 0, "final_dropout", self.final_dropout, allowed)
            return
        require(isinstance(decoder, Decoder), "decoder", decoder, "a Decoder, or None")
        for name, usual in (("pooler", False), ("reversible", "no"), ("initializer", "normal")):
            require(getattr(self, name) == usual, name, getattr(self, name), f"{quote(usual)} with a decoder")
        ours, theirs = self.embeddings, decoder.embeddings
        require(theirs.size == self.hidden_size, "decoder.embeddings.size", theirs.size, f"{self.hidden_size}, as here")
        if decoder.shared_words:
            for name in ("vocabulary_size", "size", "padding_id", "scale"):
                value, wanted = getattr(theirs, name), getattr(ours, name)
                allowed = f"{quote(wanted)}, as here, with shared_words"
                require(value == wanted, f"decoder.embeddings.{name}", value, allowed)

    def _check_reversible(self) -> None:
        for i, layer in enumerate(self.layers):
            allowed = "'pre', 'both' or 'none' where residuals are reversible: a norm of the sum cannot be undone"
            require("post" not in layer.norm_places, f"layers[{i}].norm_place", layer.norm_place, allowed)
            allowed = "'nothing' where residuals are reversible, which keep nothing"
            require(layer.recompute == "nothing", f"layers[{i}].recompute", layer.recompute, allowed)
        fits = self.reversible == "mean" or not (isinstance(self.head, CausalLM) and self.head.tied)
        require(fits, "head.tied", True, "false where the streams are concatenated: the table is half as wide")

    def _check_slices(self) -> None:
        require_count(self, "slice_length", most=MOST_ROWS)
        for i, layer in enumerate(self.layers):
            one = layer.attention
            bounded = one.pattern.reach() is not None or not one.heads
            allowed = "one that sees a bounded way (Window, Chunks, Sink and their unions) with a slice_length"
            require(bounded, f"layers[{i}].attention.pattern", str(one.pattern), allowed)
            for name, usual in (("global_projections", False), ("distance_bias", None)):
                value = getattr(one, name)
                require(value == usual, f"layers[{i}].attention.{name}", value, f"{usual} with a slice_length")

    @property
    def output_size(self) -> int:
        """Columns of the last states, which heads read."""
        return self.hidden_size * (2 if self.reversible == "concatenated" else 1)

    def _check_mimetic(self) -> None:
        scheme = self.embeddings.positions.scheme
        allowed = "'learned' or 'axes' with the initializer 'mimetic', which draws sinusoids into the tables"
        require(scheme in ("learned", "axes"), "embeddings.positions.scheme", scheme, allowed)
        for i, layer in enumerate(self.layers):
            one = layer.attention
            allowed = f"heads, {one.heads}, with the initializer 'mimetic', whose keys begin as queries"
            require(one.key_inner == one.inner, f"layers[{i}].attention.key_heads", one.key_heads, allowed)
            allowed = "false with the initializer 'mimetic': queries that are keys begin alike as they are"
            require(not one.shared_query_key, f"layers[{i}].attention.shared_query_key", True, allowed)

    def _check_decoder(self, head: CausalLM) -> None:
        check_decoder_layers(self.layers, "with the head 'causal-lm'")
        counted = self.embeddings.positions.from_padding
        allowed = "false with the head 'causal-lm': generating counts all tokens"
        require(not counted, "embeddings.positions.from_padding", counted, allowed)
        allowed = f"shorter than the model, {self.length} tokens: in it nothing is to be told"
        require(self.prefix < self.length, "prefix", self.prefix, allowed)
        fits = not head.tied or self.embeddings.size == self.hidden_size
        require(fits, "head.tied", head.tied, "false where embeddings have a size of their own")

    @property
    def takes_global_tokens(self) -> bool:
        """Whether a global token is read in another way than the rest."""
        return any(one.attention.global_projections or one.attention.pattern.sees_flags for one in self.layers)

    @property
    def prefix(self) -> int:
        """How many first tokens of a text see one another though it is a decoder: they are given, never told."""
        return max(one.attention.pattern.prefix or 0 for one in self.layers) if self.is_decoder else 0

    @property
    def is_decoder(self) -> bool:
        """Whether it predicts the next token, each state from earlier ones alone, or from a prefix."""
        return isinstance(self.head, CausalLM)

    def with_layers(self, change: Callable[[Layer], Layer]) -> Architecture:
        """The same model with each layer changed, those of a second text too."""
        decoder = self.decoder
        if decoder is not None:
            decoder = replace(decoder, layers=tuple(map(change, decoder.layers)))
        return replace(self, layers=tuple(map(change, self.layers)), decoder=decoder)

    @property
    def writing_layers(self) -> tuple[Layer, ...]:
        """The layers that a cache is of: those which read what is written, token by token."""
        return self.layers if self.decoder is None else self.decoder.layers

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON-ready nested dicts; `from_dict` reads it back to an equal value."""
        return plain_fields(self)

    @classmethod
    def from_dict(cls, data: object) -> Architecture:
        """Read what `to_dict` wrote. Raises InputError naming any missing, unknown or impossible field."""
        fields = with_length(with_norms(read_object(data, "architecture")))
        parts = {
            "layers": read_layers(fields.get("layers"), "architecture.layers"),
            "embeddings": read_embeddings(fields.get("embeddings")),
            "head": read_head(fields.get("head")),
            "final_norm": read_norm(fields.get("final_norm"), "final_norm"),
            "storages": read_storages(fields.get("storages", [])),
            "decoder": read_decoder(fields.get("decoder")),
        }
        return build(cls, {**fields, **parts}, "architecture")


def differences(ours: Architecture, theirs: Architecture) -> list[str]:
    """Every field in which two architectures differ, as `path: ours != theirs`; [] where they are equal."""
    left, right = _flatten(ours.to_dict()), _flatten(theirs.to_dict())
    missing = "absent"
    return [
        f"{path}: {quote(left.get(path, missing))} != {quote(right.get(path, missing))}"
        for path in [*left, *(path for path in right if path not in left)]
        if left.get(path, missing) != right.get(path, missing)
    ]


def of_any_layer(difference: str) -> str:
    """A line of `differences` without the number of its layer."""
    return re.sub(r"^layers\.\d+\.", "layers.", difference)


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None or path.endswith("pattern"):
        return {path: value}
    flat: dict[str, Any] = {}
    for name, one in items:
        flat |= _flatten(one, f"{path}.{name}" if path else str(name))
    return flat
