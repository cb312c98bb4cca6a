"""What a model is: a frozen description with one entry per applied layer. Every saving is a field of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gossamer.errors import InputError, quote
from gossamer.layers import storage_from_dict
from gossamer.models.bricks import (
    LAYER_NORM,
    Attention,
    DistanceTable,
    Embeddings,
    FeedForward,
    Norm,
    Positions,
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
)
from gossamer.models.heads import CausalLM, DenseLayer, Head
from gossamer.models.old_descriptions import with_length, with_norms
from gossamer.models.settings import NormPlace, Reversible, norm_count
from gossamer.patterns import Full, pattern_from_dict
from gossamer.settings import plain_fields

__all__ = [
    "Architecture",
    "Attention",
    "DistanceTable",
    "Embeddings",
    "FeedForward",
    "GlobalTokens",
    "Layer",
    "Norm",
    "Positions",
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
class Layer:
    """One application of attention and feed-forward; with `cross_attention` of that to other states in between.

    `norm` is that of both parts, `norm_place` where it stands: "post" normalises after the residual sum, as BERT does,
    "pre" what a part reads, as GPT-2 and the Sparse Transformer (section 5.2) do, "both" what it reads and, by a norm
    of its own, what it gives before that is added (Gemma 2: arXiv 2408.00118, section 2), "none" nothing. A pair is
    attention's and the feed-forward's: ModernBERT's first layer is ("none", "pre"). While training, `recompute` keeps
    only the input of the named part and computes it once more in the backward pass (Sparse Transformer, section 5.4).
    """

    attention: Attention
    feed_forward: FeedForward
    norm: Norm = LAYER_NORM
    norm_place: NormPlace | tuple[NormPlace, NormPlace] = "post"
    recompute: Recompute = "nothing"
    cross_attention: Attention | None = None

    def __post_init__(self) -> None:
        if self.cross_attention is not None:
            _check_cross(self.cross_attention)
        require_norm(self, "norm", optional=False)
        require_choice(self, Recompute, "recompute")
        self._check_places()

    def _check_places(self) -> None:
        place = self.norm_place
        is_pair = isinstance(place, tuple) and len(place) == 2
        named = [one in get_args(NormPlace) for one in (place if is_pair else (place,)) if isinstance(one, str)]
        allowed = f"one of {', '.join(map(repr, get_args(NormPlace)))}, or a pair of them: attention's, feed-forward's"
        require(named == [True] * (2 if is_pair else 1), "norm_place", place, allowed)
        if is_pair and place[0] == place[1]:
            # One spelling, so that layers that are alike are equal.
            object.__setattr__(self, "norm_place", place[0])

    @property
    def norm_places(self) -> tuple[NormPlace, NormPlace]:
        """Where the norms of attention and of the feed-forward stand."""
        place = self.norm_place
        return place if isinstance(place, tuple) else (place, place)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A whole encoder or decoder. `layers` lists the *applications* in order.

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
        self._check_length()
        if isinstance(self.head, CausalLM):
            self._check_decoder(self.head)
        if self.initializer == "mimetic":
            self._check_mimetic()

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

    def _check_length(self) -> None:
        reach = self.embeddings.positions.reach
        if self.length == 0 and reach is not None:
            # One spelling, so that models that are alike are equal.
            object.__setattr__(self, "length", reach)
        require_count(self, "length", most=MOST_ROWS)
        allowed = f"at most {reach}, the positions of its table"
        require(reach is None or self.length <= reach, "length", self.length, allowed)

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

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON-ready nested dicts; `from_dict` reads it back to an equal value."""
        return plain_fields(self)

    @classmethod
    def from_dict(cls, data: object) -> Architecture:
        """Read what `to_dict` wrote. Raises InputError naming any missing, unknown or impossible field."""
        fields = with_length(with_norms(_object(data, "architecture")))
        layers = fields.get("layers")
        if not isinstance(layers, (list, tuple)):
            raise InputError(f"architecture.layers is {quote(layers)}; it must be a list of layers")
        require(len(layers) <= MOST_LAYERS, "number of layers", len(layers), f"from 1 to {MOST_LAYERS}")
        parts = {
            "layers": tuple(_layer(one, f"layers[{i}]") for i, one in enumerate(layers)),
            "embeddings": _embeddings(fields.get("embeddings")),
            "head": _head(fields.get("head")),
            "final_norm": _norm(fields.get("final_norm"), "final_norm"),
            "storages": _storages(fields.get("storages", [])),
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


def check_weight_sets(layers: Sequence[Layer]) -> None:
    """Raise InputError unless weight sets are numbered without gaps, and layers that share one give it one shape."""
    _check_sharing("attention", {i: _attention_shape(one) for i, one in enumerate(layers)})
    _check_sharing("feed_forward", {i: _feed_forward_shape(one) for i, one in enumerate(layers)})
    tables = {i: (one.attention.heads, one.attention.distance_bias) for i, one in enumerate(layers)}
    _check_sharing(
        "distance_bias",
        {i: (one.weights, (heads, one.before, one.after)) for i, (heads, one) in tables.items() if one is not None},
    )
    crossing = {i: _heads_shape(one.cross_attention, one) for i, one in enumerate(layers) if one.cross_attention}
    _check_sharing("cross_attention", crossing)


def _check_sharing(part: str, shapes: Mapping[int, tuple[int, tuple[object, ...]]]) -> None:
    sets = sorted({weights for weights, _ in shapes.values()})
    require(sets == list(range(len(sets))), f"layers.{part}.weights", sets, "numbered 0, 1, 2 ... without gaps")
    first: dict[int, tuple[object, ...]] = {}
    for i, (weights, shape) in shapes.items():
        known = first.setdefault(weights, shape)
        if known != shape:
            raise InputError(f"layers[{i}].{part} shares weight set {weights} but is shaped {shape}, not {known}")


def _attention_shape(layer: Layer) -> tuple[int, tuple[object, ...]]:
    return _heads_shape(layer.attention, layer)


def _heads_shape(one: Attention, layer: Layer) -> tuple[int, tuple[object, ...]]:
    biases, norms = (
        (one.bias, one.output_bias, one.shared_query_key),
        (one.query_key_norm, *_norms_of(layer.norm, layer.norm_places[0], one.heads > 0)),
    )
    return one.weights, (one.heads, one.head_size, one.key_inner, one.global_projections, *biases, *norms)


def _check_cross(settings: Attention) -> None:
    what = "with cross-attention: its keys are another text's"
    require(settings.heads > 0, "cross_attention.heads", settings.heads, "1 or more")
    require(settings.pattern == Full(), "cross_attention.pattern", settings.pattern, f"Full() {what}")
    refused = {"global_projections": False, "rotary": None, "distance_bias": None, "shared_query_key": False}
    for name, usual in refused.items():
        value = getattr(settings, name)
        require(value == usual, f"cross_attention.{name}", value, f"{quote(usual)} {what}")


def _feed_forward_shape(layer: Layer) -> tuple[int, tuple[object, ...]]:
    one = layer.feed_forward
    norms = _norms_of(layer.norm, layer.norm_places[1], one.width > 0)
    return one.weights, (one.width, one.activation, one.gated, one.bias, *norms)


def _norms_of(norm: Norm, place: NormPlace, reads: bool) -> tuple[Norm, ...]:
    return (norm,) * norm_count(place, reads=reads)


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
    tuples = {name: tuple(given[name]) for name in ("axes", "axis_sizes") if isinstance(given.get(name), list)}
    given = {**given, **tuples}
    positions = _build(Positions, given, "embeddings.positions")
    parts = {"positions": positions} | _norms(fields, "norm", "embeddings")
    return _build(Embeddings, {**fields, **parts}, "embeddings")


def _layer(data: object, where: str) -> Layer:
    fields = _object(data, where)
    crossing, place = fields.get("cross_attention"), fields.get("norm_place")
    parts = {
        **({"norm_place": tuple(place)} if isinstance(place, list) else {}),
        "attention": _attention(fields.get("attention"), f"{where}.attention"),
        "cross_attention": None if crossing is None else _attention(crossing, f"{where}.cross_attention"),
        "feed_forward": _build(FeedForward, fields.get("feed_forward"), f"{where}.feed_forward"),
        **_norms(fields, "norm", where),
    }
    return _build(Layer, {**fields, **parts}, where)


def _attention(data: object, where: str) -> Attention:
    fields = _object(data, where)
    pattern = pattern_from_dict(_object(fields.get("pattern"), f"{where}.pattern"))
    rotary, table = fields.get("rotary"), fields.get("distance_bias")
    inner = {
        "pattern": pattern,
        "rotary": None if rotary is None else _build(Rotary, rotary, f"{where}.rotary"),
        "distance_bias": None if table is None else _build(DistanceTable, table, f"{where}.distance_bias"),
        **_norms(fields, "query_key_norm", where),
    }
    return _build(Attention, {**fields, **inner}, where)


def _storages(data: object) -> tuple[StoredMaps, ...]:
    if not isinstance(data, (list, tuple)):
        raise InputError(f"storages is {quote(data)}; it must be a list of maps with their storage")
    found = []
    for i, one in enumerate(data):
        fields = _object(one, f"storages[{i}]")
        maps, storage = fields.get("maps"), storage_from_dict(fields.get("storage"))
        parts = {"maps": tuple(maps) if isinstance(maps, list) else maps, "storage": storage}
        found.append(_build(StoredMaps, {**fields, **parts}, f"storages[{i}]"))
    return tuple(found)


def _norms(fields: dict[str, Any], name: str, where: str) -> dict[str, Norm | None]:
    """The norm of this name as a value, where the fields have one."""
    return {name: _norm(fields[name], f"{where}.{name}")} if name in fields else {}


def _norm(data: object, where: str) -> Norm | None:
    return None if data is None else _build(Norm, data, where)


def _head(data: object) -> Head | None:
    if data is None:
        return None
    kind = _object(data, "head").get("kind")
    if not isinstance(kind, str) or kind not in Head.kinds:
        raise InputError(f"head.kind is {quote(kind)}; it must be one of {', '.join(Head.kinds)}")
    settings = Head.kinds[kind]
    names = {one.name for one in dataclasses.fields(settings)}  # type: ignore[arg-type]
    lists = {name: value for name, value in data.items() if name in names and isinstance(value, list)}  # type: ignore
    parts: dict[str, Any] = _norms(data, "norm", "head")  # type: ignore[arg-type]
    if "labels" in lists:
        parts["labels"] = tuple(lists["labels"])
    if "dense" in lists:
        parts["dense"] = tuple(_build(DenseLayer, one, f"head.dense[{i}]") for i, one in enumerate(lists["dense"]))
    return _build(settings, {**data, **parts}, "head")  # type: ignore
