"""The second stack of a model of two texts: what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gossamer.errors import InputError, quote
from gossamer.models.bricks import Embeddings, Norm, RelativePositions, require_norm
from gossamer.models.checks import MOST_LAYERS, MOST_ROWS, require, require_count, require_flag, require_rate
from gossamer.models.layer import Layer, check_weight_sets

__all__ = ["Decoder", "check_decoder_layers", "settle_length"]


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """The stack that writes the second text, token by token, and attends to the states of the first (Vaswani et al.
    2017, section 3.1).

    Each of its `layers` is causal and has `cross_attention`. `start_id` stands before the second text. `length`: how
    many tokens of it are read, start included; 0: as many as its table has positions for. With `shared_words` its word
    table is the model's, else one of its own. `final_norm` and `final_dropout` are of its last states.
    """

    layers: tuple[Layer, ...]
    embeddings: Embeddings
    start_id: int
    length: int = 0
    shared_words: bool = True
    final_norm: Norm | None = None
    final_dropout: float = 0.0

    def __post_init__(self) -> None:
        whole = isinstance(self.layers, tuple) and all(isinstance(one, Layer) for one in self.layers)
        require(whole, "layers", self.layers, "a tuple of Layers")
        require(isinstance(self.embeddings, Embeddings), "embeddings", self.embeddings, "an Embeddings")
        require_flag(self, "shared_words")
        require_norm(self, "final_norm")
        require_rate(self, "final_dropout")
        require(0 < len(self.layers) <= MOST_LAYERS, "number of layers", len(self.layers), f"from 1 to {MOST_LAYERS}")
        last = self.embeddings.vocabulary_size - 1
        known = type(self.start_id) is int and 0 <= self.start_id <= last
        require(known, "start_id", self.start_id, f"a token id from 0 to {last}")
        for name, usual in (("token_types", 0), ("projection", False)):
            value = getattr(self.embeddings, name)
            require(value == usual, f"embeddings.{name}", value, f"{usual} in a decoder of a second text")
        check_weight_sets(self.layers)
        for i, layer in enumerate(self.layers):
            require(layer.cross_attention is not None, f"layers[{i}].cross_attention", None, "an Attention")
        check_decoder_layers(self.layers, "in a decoder of a second text")
        settle_length(self, self.embeddings)


def settle_length(owner: Any, embeddings: Embeddings) -> None:
    """Where its `length` is 0, make it that of the table of positions. Raise InputError for more than the table has."""
    reach = embeddings.positions.reach
    if owner.length == 0 and reach is not None:
        # One spelling, so that models that are alike are equal.
        object.__setattr__(owner, "length", reach)
    require_count(owner, "length", most=MOST_ROWS)
    allowed = f"at most {reach}, the positions of its table"
    require(reach is None or owner.length <= reach, "length", owner.length, allowed)


def check_decoder_layers(layers: tuple[Layer, ...], where: str) -> None:
    """Raise InputError for a layer in which a token would see later ones."""
    for i, layer in enumerate(layers):
        if layer.attention.pattern.prefix is None:
            raise InputError(
                f"layers[{i}].attention.pattern is {quote(str(layer.attention.pattern))}; {where} it must be causal, "
                "such as Full(causal=True) or Window(255, 0), or a Prefix"
            )
        flagged = layer.attention.global_projections
        allowed = f"false {where}: the tokens that it is for see later ones"
        require(not flagged, f"layers[{i}].attention.global_projections", flagged, allowed)
        table = layer.attention.distance_bias
        allowed = f"a DistanceTable or None {where}: states of distances are read by encoders alone"
        require(not isinstance(table, RelativePositions), f"layers[{i}].attention.distance_bias", table, allowed)
