"""What a model is: a frozen description with one entry per applied layer. Every saving is a field of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from gossamer.errors import InputError
from gossamer.patterns import Pattern, pattern_from_dict

__all__ = [
    "Architecture",
    "Attention",
    "Embeddings",
    "FeedForward",
    "Head",
    "Layer",
    "MaskedLM",
    "Positions",
    "SentenceEmbedding",
]

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def _require(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise InputError(f"{field} is {value!r}; it must be {allowed}")


def _require_size(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(type(value) is int and 1 <= value < 2**31, name, value, "a whole number from 1 to 2147483647")


def _require_rate(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(isinstance(value, (int, float)) and 0 <= value < 1, name, value, "a probability from 0 up to, not including, 1")


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Where a token's position comes from: a learned table of `length` usable rows.

    `offset` rows lie before position 0 (RoBERTa and Longformer keep `pad_token_id + 1` of them). With `from_padding`
    only real tokens are counted, and padding reads the row before position 0, as RoBERTa and Longformer do.
    """

    length: int
    scheme: Literal["learned"] = "learned"
    offset: int = 0
    from_padding: bool = False

    def __post_init__(self) -> None:
        _require_size(self, "length")
        _require(self.scheme == "learned", "positions.scheme", self.scheme, "'learned'")
        _require(type(self.offset) is int and self.offset >= 0, "positions.offset", self.offset, "0 or more")
        _require(not self.from_padding or self.offset > 0, "positions.offset", self.offset, "at least 1 with from_padding")


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Word, position and token-type tables of `size` columns, summed and normalised. `token_types=0`: no such table."""

    vocabulary_size: int
    size: int
    positions: Positions
    token_types: int = 2
    padding_id: int = 0
    norm_eps: float = 1e-12
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _require_size(self, "vocabulary_size", "size")
        _require_rate(self, "dropout")
        _require(type(self.token_types) is int and 0 <= self.token_types < 2**31, "token_types", self.token_types, "0 or more")
        _require(0 <= self.padding_id < self.vocabulary_size, "padding_id", self.padding_id,
                 f"a token id from 0 to {self.vocabulary_size - 1}")
        _require(self.norm_eps > 0, "norm_eps", self.norm_eps, "above 0")


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Multi-head attention under one pattern.

    `global_projections`: flagged rows are read with query, key and value projections of their own (Longformer, section 3.1).
    `weights` names the weight set; applications that name the same set share it.
    """

    pattern: Pattern
    heads: int
    head_size: int
    weights: int
    global_projections: bool = False
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _require_size(self, "heads", "head_size")
        _require_rate(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """Two linear maps around an activation, `width` in between."""

    width: int
    weights: int
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        _require_size(self, "width")
        _require(self.activation in Activation.__args__, "activation", self.activation, f"one of {', '.join(Activation.__args__)}")


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
        _require(self.norm == "post", "norm", self.norm, "'post'")
        _require(self.norm_eps > 0, "norm_eps", self.norm_eps, "above 0")


@dataclass(frozen=True, kw_only=True)
class MaskedLM:
    """Which token stands under each mask: dense, activation, norm, then the (tied) word table and a bias."""

    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    tied: bool = True
    kind: Literal["masked-lm"] = "masked-lm"


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedding:
    """One vector a text: the mean, maximum or first of its token states, of length 1 where `normalized`."""

    pooling: Literal["mean", "cls", "max"] = "mean"
    normalized: bool = False
    kind: Literal["embed"] = "embed"

    def __post_init__(self) -> None:
        _require(self.pooling in ("mean", "cls", "max"), "pooling", self.pooling, "one of mean, cls, max")


Head = MaskedLM | SentenceEmbedding
_HEADS: dict[str, type] = {"masked-lm": MaskedLM, "embed": SentenceEmbedding}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A whole encoder. `layers` lists the *applications* in order; `pooler` adds BERT's tanh layer on the first token."""

    hidden_size: int
    embeddings: Embeddings
    layers: tuple[Layer, ...]
    pooler: bool = False
    head: Head | None = None
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        _require_size(self, "hidden_size")
        _require(len(self.layers) > 0, "layers", self.layers, "at least one layer")

    @property
    def length(self) -> int:
        """How many tokens the model can read at once."""
        return self.embeddings.positions.length

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON-ready nested dicts; `from_dict` reads it back to an equal value."""
        return _to_plain(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        """Read what `to_dict` wrote. Raises InputError naming any missing, unknown or impossible field."""
        layers = data.get("layers")
        _require(isinstance(layers, list), "layers", layers, "a list of layers")
        return _build(cls, {**data, "layers": tuple(_layer(one, f"layers[{i}]") for i, one in enumerate(layers)),  # type: ignore[arg-type]
                            "embeddings": _embeddings(data.get("embeddings")), "head": _head(data.get("head"))}, "architecture")


def _to_plain(value: Any) -> Any:
    if isinstance(value, Pattern):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_to_plain(one) for one in value] if isinstance(value, (tuple, list)) else value


def _build(cls: type, data: object, where: str) -> Any:
    _require(isinstance(data, dict), where, data, "an object with fields")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(fields))  # type: ignore[call-overload]
    missing = sorted(n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in data)  # type: ignore[operator]
    if unknown or missing:
        raise InputError(f"{where} has unknown fields {unknown} and lacks {missing}; known are {sorted(fields)}")
    return cls(**data)  # type: ignore[arg-type]


def _embeddings(data: object) -> Embeddings:
    _require(isinstance(data, dict), "embeddings", data, "an object with fields")
    return _build(Embeddings, {**data, "positions": _build(Positions, data.get("positions"), "positions")}, "embeddings")  # type: ignore


def _layer(data: object, where: str) -> Layer:
    _require(isinstance(data, dict), where, data, "an object with fields")
    attention = data.get("attention")  # type: ignore[attr-defined]
    _require(isinstance(attention, dict), f"{where}.attention", attention, "an object with fields")
    return _build(Layer, {
        **data,  # type: ignore[dict-item]
        "attention": _build(Attention, {**attention, "pattern": pattern_from_dict(attention.get("pattern"))}, f"{where}.attention"),
        "feed_forward": _build(FeedForward, data.get("feed_forward"), f"{where}.feed_forward"),  # type: ignore[attr-defined]
    }, where)


def _head(data: object) -> Head | None:
    if data is None:
        return None
    kind = data.get("kind") if isinstance(data, dict) else data
    _require(kind in _HEADS, "head.kind", kind, f"one of {', '.join(_HEADS)}")
    return _build(_HEADS[kind], data, "head")  # type: ignore[index]
