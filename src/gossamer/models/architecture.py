"""What a model is: a frozen description with one entry per applied layer. Every saving is a field of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.errors import InputError, quote
from gossamer.models.checks import (
    MOST_COLUMNS,
    MOST_LAYERS,
    MOST_ROWS,
    require,
    require_choice,
    require_count,
    require_flag,
    require_positive,
    require_rate,
)
from gossamer.models.heads import CausalLM, Head
from gossamer.models.settings import Activation
from gossamer.patterns import Pattern, pattern_from_dict

__all__ = [
    "Architecture",
    "Attention",
    "Embeddings",
    "FeedForward",
    "GlobalTokens",
    "Layer",
    "Positions",
    "differences",
]

Recompute = Literal["nothing", "attention", "feed_forward", "both"]
Initializer = Literal["normal", "gpt2", "sparse-transformer", "mimetic"]
GlobalTokens = Literal["first", "none"]


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Where a token's position comes from: "learned", a table of `offset + length` rows, or "axes".

    The first `offset` rows lie before position 0 (RoBERTa and Longformer keep `pad_token_id + 1` of them). With
    `from_padding` only tokens other than padding are counted, and padding reads the row before position 0.
    "axes" sums one row of a table for each dimension, the last one running fastest: (rows, columns, channels) of an
    image, (blocks, places) of a stride (Sparse Transformer, section 5.3); `length` is their product.
    """

    length: int
    scheme: Literal["learned", "axes"] = "learned"
    offset: int = 0
    from_padding: bool = False
    axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_count(self, "length", most=MOST_ROWS)
        require_count(self, "offset", least=0, most=MOST_ROWS)
        require_choice(self, Literal["learned", "axes"], "scheme")
        require_flag(self, "from_padding")
        require(not self.from_padding or self.offset > 0, "offset", self.offset, "at least 1 with from_padding")
        self._check_axes()

    @property
    def rows(self) -> int:
        """Rows of all its tables."""
        return sum(self.axes) if self.axes else self.offset + self.length

    def _check_axes(self) -> None:
        whole = isinstance(self.axes, tuple) and all(type(one) is int and one > 0 for one in self.axes)
        require(whole, "axes", self.axes, "a tuple of sizes, such as (32, 32, 3)")
        if self.scheme == "axes":
            require(math.prod(self.axes) == self.length, "axes", self.axes, f"sizes whose product is {self.length}")
            require(self.offset == 0, "offset", self.offset, "0 with axes")
        else:
            require(self.axes == (), "axes", self.axes, f"() with {self.scheme} positions")


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Word, position and token-type tables of `size` columns, summed and, with `norm`, normalised.

    `token_types=0`: no such table.
    `projection`: a linear map takes the sum to the model's width (ALBERT's factorised embedding, Lan et al. 2020,
    section 3.1); without one `size` is that width.
    """

    vocabulary_size: int
    size: int
    positions: Positions
    token_types: int = 2
    padding_id: int | None = 0
    norm_eps: float = 1e-12
    dropout: float = 0.1
    projection: bool = False
    norm: bool = True

    def __post_init__(self) -> None:
        require_flag(self, "projection", "norm")
        require_count(self, "vocabulary_size", most=MOST_ROWS)
        require_count(self, "size")
        require_count(self, "token_types", least=0, most=MOST_ROWS)
        require_rate(self, "dropout")
        require_positive(self, "norm_eps")
        last = self.vocabulary_size - 1
        is_id = type(self.padding_id) is int and 0 <= self.padding_id <= last
        require(is_id or self.padding_id is None, "padding_id", self.padding_id, f"a token id from 0 to {last}")
        counts = self.positions.from_padding
        require(is_id or not counts, "padding_id", self.padding_id, "given when positions are counted from padding")


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Multi-head attention under one pattern.

    `global_projections`: flagged rows are read with query, key and value projections of their own (Longformer, section
    3.1). `weights` names the weight set; applications that name the same set share it, whatever their pattern.
    `dropout` is that of the attention weights, `residual_dropout` that of the output before it is added (Vaswani et al.
    2017, section 5.4). `scale` multiplies the scores; None is 1 / sqrt(head_size).
    """

    pattern: Pattern
    heads: int
    head_size: int
    weights: int
    global_projections: bool = False
    dropout: float = 0.1
    residual_dropout: float = 0.1
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is not None:
            require_positive(self, "scale")
        require(isinstance(self.pattern, Pattern), "pattern", self.pattern, "a pattern, such as Full()")
        require_count(self, "heads", "head_size")
        require_count(self, "weights", least=0, most=MOST_LAYERS - 1)
        require_flag(self, "global_projections")
        require_rate(self, "dropout", "residual_dropout")
        inner = self.heads * self.head_size
        require(inner <= MOST_COLUMNS, "heads * head_size", inner, f"at most {MOST_COLUMNS}")
        named = sum(heads for _, heads in self.pattern.by_head(self.heads))
        require(named == self.heads, "heads of the pattern", named, f"heads, {self.heads}")


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """Two linear maps around an activation, `width` in between. `weights` names the weight set."""

    width: int
    weights: int
    activation: Activation = "gelu"
    residual_dropout: float = 0.1

    def __post_init__(self) -> None:
        require_rate(self, "residual_dropout")
        require_count(self, "width")
        require_count(self, "weights", least=0, most=MOST_LAYERS - 1)
        require_choice(self, Activation, "activation")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One application of attention and feed-forward.

    `norm="post"` normalises after each residual sum, as BERT does, "pre" what each part reads, as GPT-2 and the Sparse
    Transformer (section 5.2) do. While training, `recompute` keeps only the input of the named part and computes it
    once more in the backward pass (Sparse Transformer, section 5.4).
    """

    attention: Attention
    feed_forward: FeedForward
    norm: Literal["post", "pre"] = "post"
    norm_eps: float = 1e-12
    recompute: Recompute = "nothing"

    def __post_init__(self) -> None:
        require_choice(self, Literal["post", "pre"], "norm")
        require_choice(self, Recompute, "recompute")
        require_positive(self, "norm_eps")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A whole encoder or decoder. `layers` lists the *applications* in order.

    `pooler` is BERT's tanh layer on the first token. `global_tokens`: what sees and is seen by everything where no
    `global_mask` is given, beside the tokens that `transformers` takes for the head: "first", the first token of every
    text, or "none". `separator_id`: the token between two texts, by which those of the head are found. With
    `final_norm_eps` the last states are normalised (where layers do so before each part). `initializer` is how fresh
    weights are drawn: see `gossamer.models.initial`.
    """

    hidden_size: int
    embeddings: Embeddings
    layers: tuple[Layer, ...]
    pooler: bool = False
    head: Head | None = None
    initializer_range: float = 0.02
    separator_id: int | None = None
    global_tokens: GlobalTokens = "none"
    final_norm_eps: float | None = None
    initializer: Initializer = "normal"

    def __post_init__(self) -> None:
        require_count(self, "hidden_size")
        require_choice(self, Initializer, "initializer")
        require_choice(self, GlobalTokens, "global_tokens")
        read = self.global_tokens == "none" or self.takes_global_tokens
        require(read, "global_tokens", self.global_tokens, "'none' where no layer's pattern has global tokens")
        if self.final_norm_eps is not None:
            require_positive(self, "final_norm_eps")
        require_flag(self, "pooler")
        require_positive(self, "initializer_range", zero=True)
        require(0 < len(self.layers) <= MOST_LAYERS, "number of layers", len(self.layers), f"from 1 to {MOST_LAYERS}")
        size = self.embeddings.size
        fits = size == self.hidden_size or self.embeddings.projection
        require(fits, "embeddings.size", size, f"the hidden_size, {self.hidden_size}, unless there is a projection")
        last, separator = self.embeddings.vocabulary_size - 1, self.separator_id
        known = separator is None or (type(separator) is int and 0 <= separator <= last)
        require(known, "separator_id", separator, f"a token id from 0 to {last}, or None")
        _check_sharing("attention", [_attention_shape(one) for one in self.layers])
        _check_sharing("feed_forward", [_feed_forward_shape(one) for one in self.layers])
        if isinstance(self.head, CausalLM):
            self._check_decoder(self.head)

    def _check_decoder(self, head: CausalLM) -> None:
        for i, layer in enumerate(self.layers):
            if layer.attention.pattern.prefix is None:
                raise InputError(
                    f"layers[{i}].attention.pattern is {quote(str(layer.attention.pattern))}; with the head "
                    "'causal-lm' it must be causal, such as Full(causal=True) or Window(255, 0), or a Prefix"
                )
            flagged = layer.attention.global_projections
            allowed = "false with the head 'causal-lm': the tokens that it is for see later ones"
            require(not flagged, f"layers[{i}].attention.global_projections", flagged, allowed)
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

    @property
    def length(self) -> int:
        """How many tokens the model can read at once."""
        return self.embeddings.positions.length

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON-ready nested dicts; `from_dict` reads it back to an equal value."""
        return _to_plain(self)

    @classmethod
    def from_dict(cls, data: object) -> Architecture:
        """Read what `to_dict` wrote. Raises InputError naming any missing, unknown or impossible field."""
        fields = _object(data, "architecture")
        layers = fields.get("layers")
        if not isinstance(layers, (list, tuple)):
            raise InputError(f"architecture.layers is {quote(layers)}; it must be a list of layers")
        require(len(layers) <= MOST_LAYERS, "number of layers", len(layers), f"from 1 to {MOST_LAYERS}")
        parts = {
            "layers": tuple(_layer(one, f"layers[{i}]") for i, one in enumerate(layers)),
            "embeddings": _embeddings(fields.get("embeddings")),
            "head": _head(fields.get("head")),
        }
        return _build(cls, {**fields, **parts}, "architecture")


def differences(ours: Architecture, theirs: Architecture) -> list[str]:
    """Every field in which two architectures differ, as `path: ours != theirs`; [] where they are equal."""
    left, right = _flatten(ours.to_dict()), _flatten(theirs.to_dict())
    missing = "absent"
    return [
        f"{path}: {quote(left.get(path, missing))} != {quote(right.get(path, missing))}"
        for path in [*left, *(path for path in right if path not in left)]
        if left.get(path, missing) != right.get(path, missing)
    ]


def _flatten(value: Any, path: str = "") -> dict[str, Any]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None or path.endswith("pattern"):
        return {path: value}
    flat: dict[str, Any] = {}
    for name, one in items:
        flat |= _flatten(one, f"{path}.{name}" if path else str(name))
    return flat


def _check_sharing(part: str, shapes: list[tuple[int, tuple[object, ...]]]) -> None:
    sets = sorted({weights for weights, _ in shapes})
    require(sets == list(range(len(sets))), f"layers.{part}.weights", sets, "numbered 0, 1, 2 ... without gaps")
    first: dict[int, tuple[object, ...]] = {}
    for i, (weights, shape) in enumerate(shapes):
        known = first.setdefault(weights, shape)
        if known != shape:
            raise InputError(f"layers[{i}].{part} shares weight set {weights} but is shaped {shape}, not {known}")


def _attention_shape(layer: Layer) -> tuple[int, tuple[object, ...]]:
    one = layer.attention
    return one.weights, (one.heads, one.head_size, one.global_projections, layer.norm_eps)


def _feed_forward_shape(layer: Layer) -> tuple[int, tuple[object, ...]]:
    one = layer.feed_forward
    return one.weights, (one.width, one.activation, layer.norm_eps)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Pattern):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_to_plain(one) for one in value] if isinstance(value, (tuple, list)) else value


def _object(data: object, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InputError(f"{where} is {quote(data)}; it must be an object with fields")
    return data


def _build(cls: Any, data: object, where: str) -> Any:
    given = _object(data, where)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(given) - set(fields))
    missing = sorted(name for name, f in fields.items() if f.default is dataclasses.MISSING and name not in given)
    if unknown or missing:
        raise InputError(f"{where} has unknown fields {unknown} and lacks {missing}; known are {sorted(fields)}")
    try:
        return cls(**given)
    except InputError as problem:
        raise InputError(f"{where}.{problem}") from None


def _embeddings(data: object) -> Embeddings:
    fields = _object(data, "embeddings")
    given = _object(fields.get("positions"), "embeddings.positions")
    axes = given.get("axes")
    given = {**given, "axes": tuple(axes)} if isinstance(axes, list) else given
    positions = _build(Positions, given, "embeddings.positions")
    return _build(Embeddings, {**fields, "positions": positions}, "embeddings")


def _layer(data: object, where: str) -> Layer:
    fields = _object(data, where)
    attention = _object(fields.get("attention"), f"{where}.attention")
    pattern = pattern_from_dict(_object(attention.get("pattern"), f"{where}.attention.pattern"))
    parts = {
        "attention": _build(Attention, {**attention, "pattern": pattern}, f"{where}.attention"),
        "feed_forward": _build(FeedForward, fields.get("feed_forward"), f"{where}.feed_forward"),
    }
    return _build(Layer, {**fields, **parts}, where)


def _head(data: object) -> Head | None:
    if data is None:
        return None
    kind = _object(data, "head").get("kind")
    if not isinstance(kind, str) or kind not in Head.kinds:
        raise InputError(f"head.kind is {quote(kind)}; it must be one of {', '.join(Head.kinds)}")
    labels = data.get("labels")  # type: ignore[attr-defined]
    settings = Head.kinds[kind]
    is_list = any(one.name == "labels" for one in dataclasses.fields(settings)) and isinstance(labels, list)  # type: ignore
    return _build(settings, {**data, "labels": tuple(labels)} if is_list else data, "head")  # type: ignore
