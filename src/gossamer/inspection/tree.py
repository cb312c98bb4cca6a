"""The parts of a model as a tree, identical neighbouring layers told once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Any, cast

from torch import nn

from gossamer.errors import plural
from gossamer.inspection.cost import Cost, PartCost
from gossamer.layers import (
    Constant,
    CrossAttention,
    FeedForwardNetwork,
    LayerNorm,
    Linear,
    RMSNorm,
    SelfAttention,
    Storage,
    TokenEmbeddings,
    UnitNorm,
)
from gossamer.models.account import model_without_memory
from gossamer.models.architecture import Architecture, Embeddings, Layer, Positions, RelativePositions
from gossamer.models.model import Model
from gossamer.models.settings import NormPlace
from gossamer.models.stack import StackModules
from gossamer.patterns import Pattern
from gossamer.patterns.head_groups import groups_of

__all__ = ["Node", "architecture_tree"]

_NORM_PLACES: dict[NormPlace, tuple[str, ...]] = {
    "post": ("after the residual sum",),
    "pre": ("of what is read",),
    "both": ("of what is read", "of what is added"),
    "none": (),
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A part of a model. `parameters` are its own and its children's; a shared weight set counts where first used."""

    name: str
    text: str = ""
    parameters: int = 0
    children: tuple[Node, ...] = ()

    def to_dict(self, itemsize: int) -> dict[str, Any]:
        """JSON-ready, with sizes in bytes."""
        own = {"name": self.name, "text": self.text, "parameters": self.parameters}
        children = [one.to_dict(itemsize) for one in self.children]
        return {**own, "bytes": self.parameters * itemsize, "children": children}


def architecture_tree(architecture: Architecture, known: Cost, beside: Architecture | None = None) -> Node:
    """The whole model; `known` is its cost at any length, which counted the parameters.

    beside: of another model; layers are told once as far as they are alike in both.
    """
    model = model_without_memory(architecture)
    other = None if beside is None else model_without_memory(beside)
    children = [
        _embeddings(architecture.embeddings, model.embeddings),
        *_layers(model, architecture.layers, _looks(other, () if beside is None else beside.layers)),
        *_final_norm(model),
        *_decoder(model, other),
        *_top(model, {part.name: part for part in known.parts}),
    ]
    text = f"reads {architecture.length:,} tokens"
    return Node(name="model", text=text, parameters=known.parameters, children=tuple(children))


def _node(name: str, text: str, *modules: nn.Module | None) -> Node:
    """A leaf that has the parameters of these."""
    counts = (one.numel() for module in modules if module is not None for one in module.parameters())
    return Node(name=name, text=text, parameters=sum(counts))


def _parent(name: str, text: str, children: Sequence[Node]) -> Node:
    return Node(name=name, text=text, parameters=sum(one.parameters for one in children), children=tuple(children))


def _embeddings(settings: Embeddings, built: TokenEmbeddings, *, shared_words: bool = False) -> Node:
    positions, size = settings.positions, f"{settings.size:,}"
    rows = f"{positions.length:,}" if not positions.offset else f"({positions.offset:,} + {positions.length:,})"
    rows = f"({' + '.join(f'{one:,}' for one in positions.axes)})" if positions.axes else rows
    tables = [
        Node(name="word", text="the same table")
        if shared_words
        else _node("word", f"{settings.vocabulary_size:,} × {size}", built.word),
        _node("position", _positions(positions, rows, size), built.position) if built.position else None,
        _node("token type", f"{settings.token_types:,} × {size}", built.token_type) if built.token_type else None,
        _norm(built.norm) if built.norm else None,
        _node("projection", built.projection.describe(), built.projection) if built.projection else None,
    ]
    return _parent("embeddings", f"summed, {size} wide", [one for one in tables if one is not None])


def _positions(positions: Positions, rows: str, size: str) -> str:
    return (
        "sinusoidal, of any length"
        if positions.scheme.startswith("sinusoidal")
        else f"{rows} × {size}, {positions.scheme}"
    )


def _norm(norm: LayerNorm | RMSNorm | UnitNorm, place: str = "") -> Node:
    """What is said of a layer norm's place takes the name's; another kind is named."""
    said = [norm.called] if not place else [place] if isinstance(norm, LayerNorm) else [norm.called, place]
    return _node("norm", ", ".join([*said, f"eps {norm.eps:g}"]), norm)


def _norms(built: SelfAttention | CrossAttention | FeedForwardNetwork, place: NormPlace) -> list[Node]:
    """Those of one part, which has none of what it reads where it reads nothing."""
    norms = zip((built.norm, built.output_norm), _NORM_PLACES[place], strict=False)
    return [_norm(norm, said) for norm, said in norms if norm is not None]


Look = tuple[Layer, list[tuple[str, Storage]]]
"""What a layer is beside its weights."""


def _looks(model: StackModules | None, layers: Sequence[Layer]) -> list[Look]:
    return [] if model is None else [(_without_weights(one), _storages(model, one)) for one in layers]


def _layers(model: StackModules, layers: Sequence[Layer], beside: Sequence[Look]) -> Iterator[Node]:
    """One node a run of layers that differ in nothing but their weights, nor do those `beside` them."""
    seen: set[str] = set()
    looks = list(zip_longest(_looks(model, layers), beside))
    for _, run in groupby(enumerate(layers), key=lambda item: looks[item[0]]):
        members = list(run)
        halves, shared = [], []
        for half, describe in _PARTS.items():
            sets = [f"{half}.{weights}" for _, one in members if (weights := _weights(one, half)) is not None]
            if not sets:
                continue
            fresh = len(set(sets) - seen)
            seen.update(sets)
            halves.append(_scaled(describe(model, members[0][1]), fresh))
            # A group with fewer weight sets than layers says so: the parameters below are those of its own sets.
            shared.append(_sharing(len(members), len(set(sets)), fresh, sets[0]))
        yield _run(members, halves, shared)


def _modules(model: StackModules, layer: Layer) -> tuple[SelfAttention, FeedForwardNetwork]:
    attention, feed_forward = model.attention[layer.attention.weights], model.feed_forward[layer.feed_forward.weights]
    return cast(SelfAttention, attention), cast(FeedForwardNetwork, feed_forward)


def _storages(model: StackModules, layer: Layer) -> list[tuple[str, Storage]]:
    named = (item for module in _modules(model, layer) for item in module.named_modules())
    return [(name, one.storage) for name, one in named if isinstance(one, Linear)]


def _run(members: Sequence[tuple[int, Layer]], halves: Sequence[Node], shared: Sequence[str]) -> Node:
    """Layers that are alike; how all their parts are shared (as ALBERT's are) stands beside their number."""
    first, last = members[0][0], members[-1][0]
    alike = "" if first == last else f"{len(members)} alike"
    children: Sequence[Node] = halves
    if len(set(shared)) == 1 and all(len(_numbers(one)) == 1 for _, one in members):
        alike = ", ".join(part for part in (alike, shared[0]) if part)
    else:
        names = [one.name for one in halves]
        notes = [Node(name="shared", text=f"{name}: {text}") for name, text in zip(names, shared, strict=True) if text]
        children = [*halves, *notes]
    return _parent(f"layer {first}" if first == last else f"layers {first}–{last}", alike, children)


def _weights(layer: Layer, part: str) -> int | None:
    """The weight set of a part; None where the layer has no such part."""
    described = layer.attention.distance_bias if part == "distance_bias" else getattr(layer, part)
    return None if described is None else cast(int, described.weights)


def _numbers(layer: Layer) -> set[int]:
    """Those of its weight sets."""
    return {weights for part in _PARTS if (weights := _weights(layer, part)) is not None}


def _without_weights(layer: Layer) -> Layer:
    table = layer.attention.distance_bias
    attention = replace(layer.attention, weights=0, distance_bias=None if table is None else replace(table, weights=0))
    cross = None if layer.cross_attention is None else replace(layer.cross_attention, weights=0)
    feed_forward = replace(layer.feed_forward, weights=0)
    return replace(layer, attention=attention, cross_attention=cross, feed_forward=feed_forward)


def _sharing(layers: int, sets: int, fresh: int, first: str) -> str:
    if fresh == sets == layers:
        return ""
    if fresh == sets:
        return f"{plural(sets, 'weight set')} for {plural(layers, 'layer')}"
    return f"weights of earlier layers, from set {first.split('.')[1]}" if not fresh else f"partly shared, {fresh} new"


def _scaled(node: Node, times: int) -> Node:
    """The same parts, several weight sets of them."""
    children = tuple(_scaled(one, times) for one in node.children)
    return replace(node, parameters=node.parameters * times, children=children)


def _attention(model: StackModules, layer: Layer) -> Node:
    built, settings = _modules(model, layer)[0], layer.attention
    if not settings.heads:
        return _parent("attention", "no heads", _constant("output", built.output, built, layer.norm_places[0]))
    of_globals = (built.query_global, built.key_global, built.value_global) if built.global_projections else ()
    norms = (("query", built.query_norm), ("key", built.key_norm))
    children = [
        _pattern(settings.pattern),
        *_projections(built.query, None if built.shared_query_key else built.key, built.value),
        *_relative(built),
        *(
            replace(one, name=f"global {one.name}", text=f"{one.text}, for global tokens")
            for one in (_projections(*of_globals) if of_globals else [])
        ),
        *(_norm(norm, f"of each {what}") for what, norm in norms if norm is not None),
        *(
            [Node(name="rotary", text=f"base {settings.rotary.base:g}{_share(settings.rotary.share)}")]
            if settings.rotary
            else []
        ),
        _node("output", built.output.describe(), built.output),
        *_norms(built, layer.norm_places[0]),
    ]
    shared = f", {plural(settings.key_heads, 'key head')}" if settings.key_heads else ""
    return _parent("attention", f"{plural(settings.heads, 'head')} × {settings.head_size}{shared}", children)


def _constant(
    name: str, last: Linear | Constant, built: SelfAttention | FeedForwardNetwork, place: NormPlace
) -> list[Node]:
    """What is left of a part without heads or neurons."""
    return [*([] if last.bias is None else [_node(name, last.describe(), last)]), *_norms(built, place)]


def _projections(query: Linear, key: Linear | None, value: Linear) -> list[Node]:
    """Query, key and value: told as one where they are alike. Without a key that of the query is both."""
    named = [("q = k", query), ("v", value)] if key is None else [("q", query), ("k", key), ("v", value)]
    groups = groupby(named, key=lambda item: item[1].describe())
    told = [(text, list(group)) for text, group in groups]
    return [
        _node(
            ", ".join(name for name, _ in group), text + (" each" if len(group) > 1 else ""), *(one for _, one in group)
        )
        for text, group in told
    ]


def _relative(built: SelfAttention) -> list[Node]:
    """What is made of states of distances by maps of their own."""
    if not built.relative_maps:
        return []
    named = {"content-to-position": "keys", "position-to-content": "queries"}
    maps = [cast(Linear, built.relative_map(term)) for term in built.relative_terms]
    what = ", ".join(named[term] for term in built.relative_terms)
    return [_node(f"distance {what}", maps[0].describe() + (" each" if len(maps) > 1 else ""), *maps)]


def _share(share: float) -> str:
    return "" if share == 1 else f", {share:g} of each head"


def _pattern(pattern: Pattern) -> Node:
    if not pattern.differs_by_head:
        return Node(name="pattern", text=str(pattern))
    groups = tuple(Node(name=plural(heads, "head"), text=str(one)) for one, heads in groups_of(pattern, 0))
    return Node(name="pattern", text="per head", children=groups)


def _feed_forward(model: StackModules, layer: Layer) -> Node:
    built, settings = _modules(model, layer)[1], layer.feed_forward
    if not settings.width:
        return _parent("feed-forward", "no neurons", _constant("down", built.down, built, layer.norm_places[1]))
    after = ", times the gate" if built.gate else f", {settings.activation}"
    children = [
        *([_node("gate", f"{built.gate.describe()}, {settings.activation}", built.gate)] if built.gate else []),
        _node("up", built.up.describe() + after, built.up),
        _node("down", built.down.describe(), built.down),
        *_norms(built, layer.norm_places[1]),
    ]
    return _parent("feed-forward", f"{settings.width:,} wide", children)


def _distance_bias(model: StackModules, layer: Layer) -> Node:
    table = layer.attention.distance_bias
    assert table is not None
    if isinstance(table, RelativePositions):
        ranges = "" if table.farthest is None else f", ranges of distances to {table.farthest:,}"
        return _node("distance states", f"2 × {table.span:,}{ranges}", model.distance_bias[table.weights])
    count = f"({table.before:,} before + 1 + {table.after:,} after)"
    if table.buckets is not None:
        count = f"{plural(table.buckets, 'bucket')} of distances to {table.before:,}"
    text = f"{plural(layer.attention.heads, 'head')} × {count}"
    return _node("distance bias", text, model.distance_bias[table.weights])


def _cross_attention(model: StackModules, layer: Layer) -> Node:
    settings = layer.cross_attention
    assert settings is not None
    assert model.cross_attention is not None
    built = cast(CrossAttention, model.cross_attention[settings.weights])
    children = [
        *_projections(built.query, built.key, built.value),
        _node("output", built.output.describe(), built.output),
        *_norms(built, layer.norm_places[0]),
    ]
    return _parent("cross-attention", f"{plural(settings.heads, 'head')} × {settings.head_size}", children)


_PARTS = {
    "attention": _attention,
    "cross_attention": _cross_attention,
    "distance_bias": _distance_bias,
    "feed_forward": _feed_forward,
}
"""What describes each part of a layer that has weight sets of its own."""


def _final_norm(stack: StackModules) -> Iterator[Node]:
    if stack.final_norm is not None:
        yield replace(_norm(stack.final_norm, "of the last states"), name="final norm")


def _decoder(model: Model, other: Model | None) -> Iterator[Node]:
    """The stack of a second text."""
    built, settings = model.decoder, model.architecture.decoder
    beside = None if other is None else other.architecture.decoder
    if built is None or settings is None:
        return
    children = [
        _embeddings(settings.embeddings, built.embeddings, shared_words=settings.shared_words),
        *_layers(
            built, settings.layers, [] if beside is None or other is None else _looks(other.decoder, beside.layers)
        ),
        *_final_norm(built),
    ]
    yield _parent("decoder", f"writes {settings.length:,} tokens", children)


def _top(model: Model, parts: dict[str, PartCost]) -> Iterator[Node]:
    if model.pooler is not None:
        unused = "" if parts["pooler"].applications else " (unused by head)"
        yield _node("pooler", f"{model.pooler.describe()}, tanh{unused}", model.pooler)
    if model.architecture.head is not None:
        yield _node("head", model.architecture.head.describe(), model.head)
