"""Decoders from a few numbers: the plain kind, and the Sparse Transformer of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from gossamer.errors import InputError, quote
from gossamer.models.architecture import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Initializer,
    Layer,
    Norm,
    Positions,
    Recompute,
    Rotary,
)
from gossamer.models.bricks import PositionScheme
from gossamer.models.checks import MOST_LAYERS, MOST_ROWS, is_finite, require
from gossamer.models.heads import CausalLM
from gossamer.models.settings import Activation, Reversible
from gossamer.patterns import Fixed, Full, Pattern, PerHead, Strided
from gossamer.patterns.head_groups import groups_of

__all__ = ["Form", "decoder", "sparse_transformer"]

Form = Literal["gpt2", "llama"]
Heads = Literal["merged", "interleaved", "separate"]


def decoder(
    *,
    vocabulary_size: int,
    length: int,
    layers: int,
    hidden_size: int,
    heads: int,
    patterns: Pattern | Sequence[Pattern] = Full(causal=True),  # noqa: B008 - a frozen value
    head_size: int | None = None,
    width: int | None = None,
    activation: Activation | None = None,
    dropout: float = 0.0,
    axes: tuple[int, ...] = (),
    positions: PositionScheme | None = None,
    tied: bool = True,
    initializer: Initializer = "gpt2",
    recompute: Recompute = "nothing",
    norm_eps: float = 1e-5,
    form: Form = "gpt2",
    key_heads: int | None = None,
    rotary_base: float | None = None,
    reversible: Reversible = "no",
    feed_forward_chunk: int | None = None,
    shared_query_key: bool = False,
    slice_length: int | None = None,
) -> Architecture:
    """A decoder of pre-norm layers (GPT-2's, where nothing else is said).

    patterns: one for all layers, or several that the layers take in turn. head_size: `hidden_size / heads` unless
    given; width: of the feed-forward, `4 * hidden_size`. axes: sizes of the dimensions that positions are counted in,
    whose product is `length`. positions: "learned" unless given, with axes "axes", with the form "llama" "none".
    dropout: all kinds. key_heads: of keys and values. feed_forward_chunk, reversible, ...: fields of the architecture.

    form: "llama" has RMS norms, a gated feed-forward (of SiLU, two thirds as wide, rounded up to a multiple of 8), no
    biases, and positions that turn queries and keys, by `rotary_base`, 10,000 unless given (Touvron et al. 2023, arXiv
    2302.13971, section 2.2). Raises InputError for values that do not fit each other.
    """
    _check_counts(vocabulary_size=vocabulary_size, length=length, layers=layers, hidden_size=hidden_size, heads=heads)
    is_llama = _is_llama(form, rotary_base, axes)
    attention = Attention(
        pattern=_listed(patterns)[0], heads=heads, head_size=_head_size(head_size, hidden_size, heads), weights=0,
        dropout=dropout, residual_dropout=dropout, bias=not is_llama, output_bias=not is_llama,
        key_heads=None if key_heads == heads else key_heads,
        rotary=Rotary(base=rotary_base or 10000.0) if is_llama else None, shared_query_key=shared_query_key,
    )  # fmt: skip
    feed_forward = FeedForward(
        width=_width(width, hidden_size, form), weights=0, residual_dropout=dropout, gated=is_llama,
        activation=activation or ("silu" if is_llama else "gelu_tanh"), bias=not is_llama, chunk=feed_forward_chunk,
    )  # fmt: skip
    norm = Norm(kind="rms" if is_llama else "layer", eps=norm_eps, bias=not is_llama)
    layer = Layer(attention=attention, feed_forward=feed_forward, norm=norm, norm_place="pre", recompute=recompute)
    embeddings = Embeddings(
        vocabulary_size=vocabulary_size, size=hidden_size, token_types=0, padding_id=None, dropout=dropout, norm=None,
        positions=_positions(length, axes, positions or ("none" if is_llama else None)),
    )  # fmt: skip
    return Architecture(
        hidden_size=hidden_size, embeddings=embeddings, head=CausalLM(tied=tied), final_norm=norm,
        layers=_in_turn(layer, layers, _listed(patterns)), initializer=initializer,
        length=length, reversible=reversible, slice_length=slice_length,
    )  # fmt: skip


def _in_turn(layer: Layer, layers: int, several: Sequence[Pattern]) -> tuple[Layer, ...]:
    return tuple(_applied(layer, i, several[i % len(several)]) for i in range(layers))


def _listed(patterns: Pattern | Sequence[Pattern]) -> list[Pattern]:
    several = [patterns] if isinstance(patterns, Pattern) else list(patterns)
    require(len(several) > 0, "patterns", patterns, "one pattern or more")
    return several


def _head_size(given: int | None, hidden_size: int, heads: int) -> int:
    return _equal_share(hidden_size, heads) if given is None else given


def _equal_share(hidden_size: int, heads: int) -> int:
    require(hidden_size % heads == 0, "heads", heads, f"a divisor of {hidden_size}")
    return hidden_size // heads


def _is_llama(form: Form, rotary_base: float | None, axes: tuple[int, ...]) -> bool:
    require(form in get_args(Form), "form", form, "one of " + ", ".join(map(repr, get_args(Form))))
    is_llama = form == "llama"
    require(is_llama or rotary_base is None, "rotary_base", rotary_base, "left out unless the form is 'llama'")
    is_base = rotary_base is None or (is_finite(rotary_base) and rotary_base > 0)
    require(is_base, "rotary_base", rotary_base, "a finite number above 0")
    require(not (is_llama and axes), "axes", axes, "left out where the form is 'llama'")
    return is_llama


def _positions(length: int, axes: tuple[int, ...], scheme: PositionScheme | None) -> Positions:
    scheme = scheme or ("axes" if axes else "learned")
    brick = Positions(length=length if scheme == "learned" else 0, scheme=scheme, axes=axes)
    require(brick.reach in (None, length), "axes", axes, f"sizes whose product is {length}")
    return brick


def _width(width: int | None, hidden_size: int, form: Form) -> int:
    """Of the feed-forward: what is given, or what is usual."""
    if width is None:
        return -(-hidden_size // 3) * 8 if form == "llama" else 4 * hidden_size
    _check_counts(width=width)
    return width


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        most = MOST_LAYERS if name == "layers" else MOST_ROWS
        require(type(value) is int and 1 <= value <= most, name, value, f"a whole number from 1 to {most}")


def _applied(layer: Layer, weights: int, pattern: Pattern) -> Layer:
    """The same layer with weights of its own, under a pattern."""
    attention = replace(layer.attention, weights=weights, pattern=pattern)
    return replace(layer, attention=attention, feed_forward=replace(layer.feed_forward, weights=weights))


def sparse_transformer(
    *,
    vocabulary_size: int,
    length: int,
    layers: int,
    hidden_size: int,
    heads: int,
    stride: int,
    kind: Literal["strided", "fixed"] = "strided",
    summary: int = 8,
    integrated: Heads = "merged",
    axes: tuple[int, ...] = (),
    half_size: bool = False,
    dropout: float = 0.0,
    recompute: Recompute = "both",
) -> Architecture:
    """The Sparse Transformer (Child et al. 2019, arXiv 1904.10509, sections 4 to 6).

    kind: "strided" (images, periodic data) or "fixed" (text) attention of the given `stride`, the latter with
    `summary` cells a block (the paper's c). integrated (section 4.2): "merged", every head sees both parts;
    "interleaved", the parts take turns from layer to layer; "separate", one half of the heads has each part. Heads of a
    fixed pattern have summary cells of their own where the block has room (section 4.3). axes: positions of the data's
    dimensions, such as (rows, columns, channels); those of the attention, (length / stride, stride), where the stride
    divides the length. half_size: feed-forward 2 instead of 4 times as wide, heads half as wide. Initialisation,
    activation (x sigmoid(1.702 x)), pre-norm residual blocks with recomputation and an untied output are the paper's.
    """
    for name, value, allowed in (("kind", kind, ("strided", "fixed")), ("integrated", integrated, get_args(Heads))):
        if value not in allowed:
            raise InputError(f"{name} is {quote(value)}; it must be one of {', '.join(allowed)}")
    _check_counts(length=length, hidden_size=hidden_size, heads=heads, stride=stride, summary=summary)
    require(hidden_size % heads == 0, "heads", heads, f"a divisor of the hidden_size, {hidden_size}")
    first, second = ("local", "column") if kind == "strided" else ("block", "summary")

    def part(name: str, some: int) -> Pattern:
        if kind == "strided":
            return Strided(stride, part=name)
        return _fixed(stride, summary, name, some)

    if integrated == "merged":
        patterns = [part("both", heads)]
    elif integrated == "interleaved":
        patterns = [part(first, heads), part(second, heads)]
    else:
        require(heads > 1, "heads", heads, "2 or more for separate heads")
        patterns = [
            _per_head(part(first, heads // 2), heads // 2, part(second, heads - heads // 2), heads - heads // 2)
        ]
    if not axes and length % stride == 0 and length > stride > 1:
        axes = (length // stride, stride)
    return decoder(
        vocabulary_size=vocabulary_size, length=length, layers=layers, hidden_size=hidden_size, heads=heads,
        patterns=patterns, head_size=max(1, hidden_size // heads // (2 if half_size else 1)),
        width=(2 if half_size else 4) * hidden_size, activation="gelu_sigmoid", dropout=dropout, axes=axes, tied=False,
        initializer="sparse-transformer", recompute=recompute,
    )  # fmt: skip


def _fixed(stride: int, summary: int, part: str, heads: int) -> Pattern:
    """Heads with cells of their own, as many as a block has room for; later heads start over."""
    places = max(1, stride // summary)
    offsets = [summary * (i % places) for i in range(heads)]
    if part == "block" or len(set(offsets)) == 1:
        return Fixed(stride, summary, part=part)
    return PerHead(*((Fixed(stride, summary, part=part, offset=offset), 1) for offset in offsets))


def _per_head(left: Pattern, left_heads: int, right: Pattern, right_heads: int) -> PerHead:
    groups: list[tuple[Pattern, int]] = []
    for pattern, heads in ((left, left_heads), (right, right_heads)):
        groups += groups_of(pattern, heads)
    return PerHead(*groups)
