"""What a model is: a frozen description with one entry per applied layer. Every saving is a field of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gossamer.errors import InputError
from gossamer.patterns import Pattern, PerHead, pattern_from_dict

__all__ = [
    "Activation",
    "Architecture",
    "Attention",
    "Embeddings",
    "FeedForward",
    "Head",
    "Layer",
    "MaskedLM",
    "Positions",
    "SentenceEmbedding",
    "differences",
]

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
Pooling = Literal["mean", "cls", "max"]

# Bounds that no real model comes near; with them every tensor's size in bytes fits 63 bits, so none can overflow.
MOST_ROWS = 2**31 - 1
MOST_COLUMNS = 2**24
MOST_LAYERS = 1024


def _require(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise InputError(f"{field} is {_quote(value)}; it must be {allowed}")


def _quote(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _require_count(owner: object, *names: str, least: int = 1, most: int = MOST_COLUMNS) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(type(value) is int and least <= value <= most, name, value, f"a whole number from {least} to {most}")


def _require_rate(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(type(value) in (int, float) and 0 <= value < 1, name, value, "a rate from 0 up to, not including, 1")


def _require_positive(owner: object, *names: str, zero: bool = False) -> None:
    for name in names:
        value = getattr(owner, name)
        fits = type(value) in (int, float) and math.isfinite(value) and (value > 0 or (zero and value == 0))
        _require(fits, name, value, "a finite number, 0 or more" if zero else "a finite number above 0")


def _require_flag(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(isinstance(value, bool), name, value, "true or false")


def _require_choice(owner: object, choices: Any, *names: str) -> None:
    for name in names:
        value, allowed = getattr(owner, name), get_args(choices)
        _require(isinstance(value, str) and value in allowed, name, value, "one of " + ", ".join(map(repr, allowed)))


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Where a token's position comes from: a learned table of `offset + length` rows.

    The first `offset` rows lie before position 0 (RoBERTa and Longformer keep `pad_token_id + 1` of them). With
    `from_padding` only tokens other than padding are counted, and padding reads the row before position 0.
    """

    length: int
    scheme: Literal["learned"] = "learned"
    offset: int = 0
    from_padding: bool = False

    def __post_init__(self) -> None:
        _require_count(self, "length", most=MOST_ROWS)
        _require_count(self, "offset", least=0, most=MOST_ROWS)
        _require_choice(self, Literal["learned"], "scheme")
        _require_flag(self, "from_padding")
        _require(not self.from_padding or self.offset > 0, "offset", self.offset, "at least 1 with from_padding")


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Word, position and token-type tables of `size` columns, summed and normalised. `token_types=0`: no such table."""

    vocabulary_size: int
    size: int
    positions: Positions
    token_types: int = 2
    padding_id: int | None = 0
    norm_eps: float = 1e-12
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _require_count(self, "vocabulary_size", most=MOST_ROWS)
        _require_count(self, "size")
        _require_count(self, "token_types", least=0, most=MOST_ROWS)
        _require_rate(self, "dropout")
        _require_positive(self, "norm_eps")
        last = self.vocabulary_size - 1
        is_id = type(self.padding_id) is int and 0 <= self.padding_id <= last
        _require(is_id or self.padding_id is None, "padding_id", self.padding_id, f"a token id from 0 to {last}")
        counts = self.positions.from_padding
        _require(is_id or not counts, "padding_id", self.padding_id, "given when positions are counted from padding")


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Multi-head attention under one pattern.

    `global_projections`: flagged rows are read with query, key and value projections of their own (Longformer, section
    3.1). `weights` names the weight set; applications that name the same set share it, whatever their pattern.
    """

    pattern: Pattern
    heads: int
    head_size: int
    weights: int
    global_projections: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _require(isinstance(self.pattern, Pattern), "pattern", self.pattern, "a pattern, such as Full()")
        _require_count(self, "heads", "head_size")
        _require_count(self, "weights", least=0, most=MOST_LAYERS - 1)
        _require_flag(self, "global_projections")
        _require_rate(self, "dropout")
        inner = self.heads * self.head_size
        _require(inner <= MOST_COLUMNS, "heads * head_size", inner, f"at most {MOST_COLUMNS}")
        named = self.pattern.heads if isinstance(self.pattern, PerHead) else self.heads
        _require(named == self.heads, "heads of the pattern", named, f"heads, {self.heads}")


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """Two linear maps around an activation, `width` in between. `weights` names the weight set."""

    width: int
    weights: int
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        _require_count(self, "width")
        _require_count(self, "weights", least=0, most=MOST_LAYERS - 1)
        _require_choice(self, Activation, "activation")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One application of attention and feed-forward. `norm="post"` normalises after each residual sum, as BERT does."""

    attention: Attention
    feed_forward: FeedForward
    norm: Literal["post"] = "post"
    norm_eps: float = 1e-12
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _require_rate(self, "dropout")
        _require_choice(self, Literal["post"], "norm")
        _require_positive(self, "norm_eps")


@dataclass(frozen=True, kw_only=True)
class MaskedLM:
    """Which token stands under each mask: dense, activation, norm, then the (tied) word table and a bias."""

    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    tied: bool = True
    kind: Literal["masked-lm"] = "masked-lm"

    def __post_init__(self) -> None:
        _require_choice(self, Activation, "activation")
        _require_positive(self, "norm_eps")
        _require_flag(self, "tied")


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedding:
    """One vector a text: the mean, maximum or first of its token states, of length 1 where `normalized`."""

    pooling: Pooling = "mean"
    normalized: bool = False
    kind: Literal["embed"] = "embed"

    def __post_init__(self) -> None:
        _require_choice(self, Pooling, "pooling")
        _require_flag(self, "normalized")


Head = MaskedLM | SentenceEmbedding
_HEADS: dict[str, type] = {"masked-lm": MaskedLM, "embed": SentenceEmbedding}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A whole encoder. `layers` lists the *applications* in order; `pooler` is BERT's tanh layer on the first token."""

    hidden_size: int
    embeddings: Embeddings
    layers: tuple[Layer, ...]
    pooler: bool = False
    head: Head | None = None
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        _require_count(self, "hidden_size")
        _require_flag(self, "pooler")
        _require_positive(self, "initializer_range", zero=True)
        _require(0 < len(self.layers) <= MOST_LAYERS, "number of layers", len(self.layers), f"from 1 to {MOST_LAYERS}")
        size = self.embeddings.size
        _require(size == self.hidden_size, "embeddings.size", size, f"the hidden_size, {self.hidden_size}")
        _check_sharing("attention", [_attention_shape(one) for one in self.layers])
        _check_sharing("feed_forward", [_feed_forward_shape(one) for one in self.layers])

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
            raise InputError(f"architecture.layers is {_quote(layers)}; it must be a list of layers")
        _require(len(layers) <= MOST_LAYERS, "number of layers", len(layers), f"from 1 to {MOST_LAYERS}")
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
        f"{path}: {_quote(left.get(path, missing))} != {_quote(right.get(path, missing))}"
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
    _require(sets == list(range(len(sets))), f"layers.{part}.weights", sets, "numbered 0, 1, 2 ... without gaps")
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
        raise InputError(f"{where} is {_quote(data)}; it must be an object with fields")
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
    positions = _build(Positions, fields.get("positions"), "embeddings.positions")
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
    if not isinstance(kind, str) or kind not in _HEADS:
        raise InputError(f"head.kind is {_quote(kind)}; it must be one of {', '.join(_HEADS)}")
    return _build(_HEADS[kind], data, "head")
