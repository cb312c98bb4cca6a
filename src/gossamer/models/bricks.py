"""The bricks of a model as data: frozen values that say what a norm, positions, attention and feed-forward are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gossamer.layers.multi_head import RelativeTerm
from gossamer.layers.storages import Storage
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
from gossamer.models.settings import Activation
from gossamer.patterns import Pattern
from gossamer.patterns.head_groups import groups_of

__all__ = [
    "LAYER_NORM",
    "Attention",
    "DistanceTable",
    "Embeddings",
    "FeedForward",
    "Norm",
    "Positions",
    "RelativePositions",
    "Rotary",
    "StoredMaps",
    "require_norm",
]

NormKind = Literal["layer", "rms"]
PositionScheme = Literal["learned", "sinusoidal", "sinusoidal-halves", "axes", "none"]


@dataclass(frozen=True, kw_only=True)
class Norm:
    """How states are normalised: by mean and deviation ("layer"), or by their root mean square alone ("rms").

    The result is multiplied by `offset` + weight, where Gemma's offset is 1, and `bias` is added. "rms" has no bias.
    Sources: Ba et al. 2016 (arXiv 1607.06450), section 3; Zhang and Sennrich 2019 (arXiv 1910.07467), section 4.
    """

    kind: NormKind = "layer"
    eps: float = 1e-12
    bias: bool = True
    offset: float = 0.0

    def __post_init__(self) -> None:
        require_choice(self, NormKind, "kind")
        require_positive(self, "eps")
        require_positive(self, "offset", zero=True)
        require_flag(self, "bias")
        require(self.kind == "layer" or not self.bias, "bias", self.bias, "false with kind 'rms'")
        require(self.kind == "rms" or not self.offset, "offset", self.offset, "0 with kind 'layer'")


LAYER_NORM = Norm()
"""BERT's, where nothing else is said."""


def require_norm(owner: object, name: str, *, optional: bool = True) -> None:
    """Raise InputError unless this field holds a Norm (or None)."""
    value = getattr(owner, name)
    holds = isinstance(value, Norm) or (optional and value is None)
    require(holds, name, value, "a Norm, such as Norm(eps=1e-12)" + (", or None" if optional else ""))


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Queries and keys turned by their positions, so that scores know how far apart two tokens are.

    Of each head the first `share` of the columns turns: column i of the first half of them together with column i of
    the second, by `position * base ** (-2 i / columns)`. Source: Su et al. 2021 (RoFormer, arXiv 2104.09864), section
    3.4.2, which pairs neighbouring columns; the halves are those of `transformers`.
    """

    base: float = 10000.0
    share: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self, "base", "share")
        require(self.share <= 1, "share", self.share, "a share above 0, at most 1")

    def columns(self, head_size: int) -> int:
        """How many columns of a head turn."""
        return int(head_size * self.share)


@dataclass(frozen=True, kw_only=True)
class DistanceTable:
    """A number for each head and distance, key less query, that is added to the scores.

    Distances run from `-before` to `after`; keys further off have the numbers of the ends. `weights` names the table:
    attentions that name the same one share it, as all layers of T5 do. With `buckets` there are only so many numbers:
    near keys have one each, farther ones one for a range that grows with the distance, half of all for keys before and
    half for keys behind, or all for keys before where `after` is 0. Distances are of positions, or with `of_rows` of
    places in the row, padding counted (MPNet). Source: Raffel et al. 2020 (T5, arXiv 1910.10683), section 2.1.
    """

    before: int
    after: int
    weights: int
    buckets: int | None = None
    of_rows: bool = False

    def __post_init__(self) -> None:
        require_flag(self, "of_rows")
        require_count(self, "before", "after", least=0, most=MOST_ROWS)
        require_count(self, "weights", least=0, most=MOST_LAYERS - 1)
        if self.buckets is not None:
            sides = 2 if self.after else 1
            least = 2 * sides
            fits = type(self.buckets) is int and self.buckets >= least and self.buckets % sides == 0
            require(fits, "buckets", self.buckets, f"a multiple of {sides} from {least} on, or None")
            exact = self.buckets // sides // 2
            require(self.before > exact, "before", self.before, f"more than {exact}, where each distance has a number")
            require(self.after in (0, self.before), "after", self.after, f"0 or before, {self.before}, with buckets")

    @property
    def distances(self) -> int:
        """Distances that have a number of their own, or share one with few."""
        return self.before + self.after + 1


@dataclass(frozen=True, kw_only=True)
class RelativePositions:
    """States of distances, query less key, with which the content of queries and keys is compared.

    A table of `2 * span` states, as wide as the model's, of distances from -span to span - 1; further ones have the
    states at the ends. With a `farthest` those up to span // 2 have a state each, further ones one for a range that
    grows with the distance up to that. A layer's maps make keys of them, which queries meet ("content-to-position"),
    and queries, which keys meet ("position-to-content"): its maps of tokens' states, or with `own_maps` others. `terms`
    says which of the two are added to the scores. `norm` and `dropout` are of the states; `weights` names the table,
    which layers may share. Distances are of places in the row, padding counted. Source: He et al. 2021 (DeBERTa, arXiv
    2006.03654), section 3.1; shared maps and ranges: He et al. 2021 (DeBERTaV3, arXiv 2111.09543), its code.
    """

    span: int
    weights: int
    farthest: int | None = None
    terms: tuple[RelativeTerm, ...] = get_args(RelativeTerm)
    own_maps: bool = False
    norm: Norm | None = LAYER_NORM
    dropout: float = 0.1
    kind: Literal["relative-positions"] = "relative-positions"

    def __post_init__(self) -> None:
        require_count(self, "span", most=MOST_ROWS // 2)
        require_count(self, "weights", least=0, most=MOST_LAYERS - 1)
        require_flag(self, "own_maps")
        require_norm(self, "norm")
        require_rate(self, "dropout")
        both = get_args(RelativeTerm)
        named = [one for one in both if isinstance(self.terms, tuple) and one in self.terms]
        known = isinstance(self.terms, tuple) and bool(named) and set(self.terms) == set(named)
        require(known, "terms", self.terms, f"a tuple of {both[0]!r}, {both[1]!r} or both")
        # One spelling, so that layers that are alike are equal.
        object.__setattr__(self, "terms", tuple(named))
        if self.farthest is not None:
            require(self.span > 1, "span", self.span, "2 or more with a farthest")
            least = self.span // 2 + 2
            fits = type(self.farthest) is int and self.farthest >= least
            require(fits, "farthest", self.farthest, f"a whole number from {least} on, or None")


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Whence embeddings have a token's position: "learned", a table of `offset + length` rows, or as follows.

    The first `offset` rows lie before position 0 (RoBERTa and Longformer keep `pad_token_id + 1` of them). With
    `from_padding` only tokens other than padding are counted, and padding reads the row before position 0.
    "axes" sums one row of a table for each dimension, the last one running fastest: (rows, columns, channels) of an
    image, (blocks, places) of a stride (Sparse Transformer, section 5.3); with `axis_sizes` these rows have so many
    columns each, and lie side by side (Reformer, section 4, "axial"). "sinusoidal" has sines and cosines in
    turns for a table, of any length (Vaswani et al. 2017, section 3.5), "sinusoidal-halves" all sines first (Marian).
    "none" says nothing of positions, which attention may know (`Rotary`). Only "learned" has a `length`; how many
    tokens a model reads is `Architecture.length`.
    """

    length: int = 0
    scheme: PositionScheme = "learned"
    offset: int = 0
    from_padding: bool = False
    axes: tuple[int, ...] = ()
    axis_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_count(self, "length", least=int(self.scheme == "learned"), most=MOST_ROWS)
        require_count(self, "offset", least=0, most=MOST_ROWS)
        require_choice(self, PositionScheme, "scheme")
        require_flag(self, "from_padding")
        require(not self.from_padding or self.offset > 0, "offset", self.offset, "at least 1 with from_padding")
        self._check_axes()

    @property
    def rows(self) -> int:
        """Rows of all its tables that are learned."""
        return sum(self.axes) if self.axes else self.offset + self.length

    @property
    def reach(self) -> int | None:
        """How many tokens its tables have positions for; None for any number."""
        return {"learned": self.length, "axes": math.prod(self.axes)}.get(self.scheme)

    def _check_axes(self) -> None:
        whole = isinstance(self.axes, tuple) and all(type(one) is int and one > 0 for one in self.axes)
        require(whole, "axes", self.axes, "a tuple of sizes, such as (32, 32, 3)")
        if self.scheme == "axes":
            require(
                self.axes != () and math.prod(self.axes) <= MOST_ROWS, "axes", self.axes, f"1 to {MOST_ROWS} places"
            )
        else:
            require(self.axes == (), "axes", self.axes, f"() with {self.scheme} positions")
        sizes = self.axis_sizes
        whole = isinstance(sizes, tuple) and all(type(one) is int and one > 0 for one in sizes)
        fits = whole and len(sizes) in (0, len(self.axes))
        require(fits, "axis_sizes", sizes, f"(), or the columns of each of the {len(self.axes)} axes")
        if self.scheme != "learned":
            allowed = "0 with axes" if self.scheme == "axes" else "0 without a table of positions"
            require(self.offset == 0, "offset", self.offset, allowed)
            require(self.length == 0, "length", self.length, f"{allowed}: Architecture.length says what a model reads")


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Word, position and token-type tables of `size` columns, summed and, with a `norm`, normalised.

    `token_types=0`: no such table. `scale` multiplies the rows of words (Vaswani et al. 2017, section 3.4).
    `projection`: a linear map takes the sum to the model's width (ALBERT's factorised embedding, Lan et al. 2020,
    section 3.1); without one `size` is that width. With `norms_states` the map has no bias, and the norm and dropout
    are of what it gives (DeBERTa).
    """

    vocabulary_size: int
    size: int
    positions: Positions
    token_types: int = 2
    padding_id: int | None = 0
    norm: Norm | None = LAYER_NORM
    dropout: float = 0.1
    projection: bool = False
    scale: float = 1.0
    norms_states: bool = False

    def __post_init__(self) -> None:
        require_flag(self, "projection", "norms_states")
        fits = not self.norms_states or (self.projection and self.norm is not None)
        require(fits, "norms_states", self.norms_states, "false without a projection and a norm")
        require_positive(self, "scale")
        require_norm(self, "norm")
        require_count(self, "vocabulary_size", most=MOST_ROWS)
        require_count(self, "size")
        require_count(self, "token_types", least=0, most=MOST_ROWS)
        require_rate(self, "dropout")
        last = self.vocabulary_size - 1
        sizes = self.positions.axis_sizes
        require(not sizes or sum(sizes) == self.size, "axis_sizes", sizes, f"sizes whose sum is {self.size}")
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

    `key_heads`: keys and values have fewer heads, each of which as many query heads share (Ainslie et al. 2023, arXiv
    2305.13245, section 2.2); None is `heads`. `bias` is that of query, key and value, `output_bias` the output's.
    `query_key_norm` normalises each head's query and key before they are compared (Dehghani et al. 2023, arXiv
    2302.05442, section 2). `rotary` turns both by their positions, after that. `distance_bias` adds numbers to the
    scores by the same positions, or by `RelativePositions` what queries and keys make of states of distances. With
    `shared_query_key` there is no map of keys: a key is its token's query, divided by its root mean square, so that
    only its direction counts (Reformer, arXiv 2001.04451, section 2).

    Without `heads` nothing is attended to: what is left is the output's bias, and the norm after the sum.
    """

    pattern: Pattern
    heads: int
    head_size: int
    weights: int
    global_projections: bool = False
    dropout: float = 0.1
    residual_dropout: float = 0.1
    scale: float | None = None
    key_heads: int | None = None
    bias: bool = True
    output_bias: bool = True
    query_key_norm: Norm | None = None
    rotary: Rotary | None = None
    distance_bias: DistanceTable | RelativePositions | None = None
    shared_query_key: bool = False

    def __post_init__(self) -> None:
        if self.scale is not None:
            require_positive(self, "scale")
        require(isinstance(self.pattern, Pattern), "pattern", self.pattern, "a pattern, such as Full()")
        require_count(self, "heads", least=0)
        require_count(self, "head_size")
        require_count(self, "weights", least=0, most=MOST_LAYERS - 1)
        require_flag(self, "global_projections", "bias", "output_bias", "shared_query_key")
        require_rate(self, "dropout", "residual_dropout")
        require_norm(self, "query_key_norm")
        inner = self.heads * self.head_size
        require(inner <= MOST_COLUMNS, "heads * head_size", inner, f"at most {MOST_COLUMNS}")
        named = sum(heads for _, heads in groups_of(self.pattern, self.heads))
        require(named == self.heads, "heads of the pattern", named, f"heads, {self.heads}")
        fits = self.key_heads is None or (type(self.key_heads) is int and self.key_heads > 0)
        fits = fits and self.heads % (self.key_heads or 1) == 0
        require(fits, "key_heads", self.key_heads, f"a divisor of heads, {self.heads}, or None for as many")
        if self.heads == 0:
            for name in ("key_heads", "distance_bias"):
                require(getattr(self, name) is None, name, getattr(self, name), "None without heads")
        self._check_rotary()
        self._check_distance_bias()
        if self.shared_query_key:
            require(self.heads > 0, "shared_query_key", True, "false without heads")
            for name, usual in (("key_heads", None), ("query_key_norm", None), ("global_projections", False)):
                value = getattr(self, name)
                require(value == usual, name, value, f"{usual} with shared_query_key, where a key is its query")

    def _check_rotary(self) -> None:
        if self.rotary is None:
            return
        require(isinstance(self.rotary, Rotary), "rotary", self.rotary, "a Rotary, or None")
        turned = self.rotary.columns(self.head_size)
        allowed = f"a share of head_size, {self.head_size}, that is an even number of columns"
        require(turned > 0 and turned % 2 == 0, "rotary.share", self.rotary.share, allowed)
        require(not self.global_projections, "global_projections", self.global_projections, "false with rotary")

    def _check_distance_bias(self) -> None:
        given, flagged = self.distance_bias, self.global_projections
        if given is None:
            return
        allowed = "a DistanceTable, such as DistanceTable(before=128, after=128, weights=0), RelativePositions, or None"
        require(isinstance(given, DistanceTable | RelativePositions), "distance_bias", given, allowed)
        require(not flagged, "global_projections", flagged, "false with distance_bias")
        if isinstance(given, RelativePositions):
            usual = {"key_heads": None, "query_key_norm": None, "rotary": None, "shared_query_key": False}
            for name, wanted in usual.items():
                require(getattr(self, name) == wanted, name, getattr(self, name), f"{wanted} with RelativePositions")

    @property
    def inner(self) -> int:
        """Columns of the queries, and of the output, of all heads."""
        return self.heads * self.head_size

    @property
    def key_inner(self) -> int:
        """Columns of the keys, and of the values, of all their heads."""
        return (self.key_heads or self.heads) * self.head_size


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """Two linear maps around an activation, `width` in between. `weights` names the weight set.

    `gated`: a third map, `gate`, goes through the activation instead, and what it gives multiplies the first's (GLU
    variants: Shazeer 2020, arXiv 2002.05202, section 2; SwiGLU with "silu", GeGLU with "gelu"). `dropout` is that of
    what the last map reads, `residual_dropout` that of the output before it is added. `chunk`: so many tokens of each
    text go through it at once; what is between the maps is never there of all tokens (Reformer, arXiv 2001.04451,
    section 3). With a `width` of 0 what is left is the last map's bias, and the norm after the sum.
    """

    width: int
    weights: int
    activation: Activation = "gelu"
    residual_dropout: float = 0.1
    gated: bool = False
    bias: bool = True
    dropout: float = 0.0
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None:
            require_count(self, "chunk", most=MOST_ROWS)
        require_rate(self, "residual_dropout", "dropout")
        require_flag(self, "gated", "bias")
        require_count(self, "width", least=0)
        require_count(self, "weights", least=0, most=MOST_LAYERS - 1)
        require_choice(self, Activation, "activation")


@dataclass(frozen=True, kw_only=True)
class StoredMaps:
    """Linear maps of a model, by the names of its modules ("attention.0.query"), whose weights are kept in this way."""

    maps: tuple[str, ...]
    storage: Storage

    def __post_init__(self) -> None:
        named = isinstance(self.maps, tuple) and self.maps and all(isinstance(one, str) for one in self.maps)
        require(bool(named), "maps", self.maps, "a tuple of names of linear maps, such as ('attention.0.query',)")
        require(isinstance(self.storage, Storage), "storage", self.storage, "a storage, such as LowRank(rank=8)")
