"""The parts of a model as a tree, identical neighbouring layers told once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from gossamer.errors import plural
from gossamer.inspect.cost import Cost, PartCost
from gossamer.models.architecture import Architecture, Layer, Norm
from gossamer.patterns import Pattern

__all__ = ["Node", "architecture_tree"]

_NORM_PLACES = {"post": "after the residual sum", "pre": "of what is read"}


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


def architecture_tree(architecture: Architecture, known: Cost) -> Node:
    """The whole model; `known` is its cost at any length, which counted the parameters."""
    parts = {part.name: part for part in known.parts}
    children = [_embeddings(architecture), *_layers(architecture, parts), *_top(architecture, parts)]
    text = f"reads {architecture.length:,} tokens"
    return Node(name="model", text=text, parameters=known.parameters, children=tuple(children))


def _parent(name: str, text: str, children: Sequence[Node]) -> Node:
    return Node(name=name, text=text, parameters=sum(one.parameters for one in children), children=tuple(children))


def _embeddings(architecture: Architecture) -> Node:
    settings = architecture.embeddings
    positions, size = settings.positions, settings.size
    rows = f"{positions.length:,}" if not positions.offset else f"({positions.offset:,} + {positions.length:,})"
    rows = f"({' + '.join(f'{one:,}' for one in positions.axes)})" if positions.axes else rows
    tables = [
        _table("word", settings.vocabulary_size, size),
        *(
            [replace(_table("position", positions.rows, size), text=f"{rows} × {size:,}, {positions.scheme}")]
            if positions.rows
            else [Node(name="position", text="sinusoidal, of any length")] * (positions.scheme == "sinusoidal")
        ),
        *([_table("token type", settings.token_types, size)] if settings.token_types else []),
        *([_norm(size, settings.norm)] if settings.norm else []),
    ]
    if settings.projection:
        hidden = architecture.hidden_size
        tables.append(Node(name="projection", text=f"{size:,} → {hidden:,}", parameters=(size + 1) * hidden))
    return _parent("embeddings", f"summed, {size:,} wide", tables)


def _table(name: str, rows: int, size: int) -> Node:
    return Node(name=name, text=f"{rows:,} × {size:,}", parameters=rows * size)


def _norm(size: int, norm: Norm, place: str = "") -> Node:
    """What is said of a layer norm's place takes the name's; another kind is named."""
    kind = "layer norm" if norm.kind == "layer" else "RMS norm"
    said = [kind] if not place else [place] if norm.kind == "layer" else [kind, place]
    return Node(name="norm", text=", ".join([*said, f"eps {norm.eps:g}"]), parameters=(1 + norm.bias) * size)


def _map(name: str, inputs: int, outputs: int, bias: bool, more: str = "") -> Node:
    """A linear map."""
    return Node(name=name, text=f"{inputs:,} → {outputs:,}{more}", parameters=(inputs + bias) * outputs)


def _layers(architecture: Architecture, parts: dict[str, PartCost]) -> Iterator[Node]:
    """One node a run of layers that differ in nothing but their weights."""
    seen: set[str] = set()
    numbered = enumerate(architecture.layers)
    for _, run in groupby(numbered, key=lambda item: _without_weights(item[1])):
        members = list(run)
        layer = members[0][1]
        halves, shared = [], []
        for half in ("attention", "feed_forward"):
            sets = [f"{half}.{getattr(one, half).weights}" for _, one in members]
            fresh = len(set(sets) - seen)
            seen.update(sets)
            node = _attention(architecture, layer) if half == "attention" else _feed_forward(architecture, layer)
            halves.append(_scaled(node, fresh))
            # A group with fewer weight sets than layers says so: the parameters below are those of its own sets.
            shared.append(_sharing(len(members), len(set(sets)), fresh, sets[0]))
        yield _run(members, halves, shared)


def _run(members: Sequence[tuple[int, Layer]], halves: Sequence[Node], shared: Sequence[str]) -> Node:
    """Layers that are alike; how both halves are shared (as ALBERT's are) stands beside their number."""
    first, last = members[0][0], members[-1][0]
    alike = "" if first == last else f"{len(members)} alike"
    children: Sequence[Node] = halves
    if shared[0] == shared[1] and all(one.attention.weights == one.feed_forward.weights for _, one in members):
        alike = ", ".join(part for part in (alike, shared[0]) if part)
    else:
        names = [one.name for one in halves]
        notes = [Node(name="shared", text=f"{name}: {text}") for name, text in zip(names, shared, strict=True) if text]
        children = [*halves, *notes]
    return _parent(f"layer {first}" if first == last else f"layers {first}–{last}", alike, children)


def _without_weights(layer: Layer) -> Layer:
    attention, feed_forward = replace(layer.attention, weights=0), replace(layer.feed_forward, weights=0)
    return replace(layer, attention=attention, feed_forward=feed_forward)


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


def _attention(architecture: Architecture, layer: Layer) -> Node:
    one, hidden = layer.attention, architecture.hidden_size
    projections = _projections(layer, hidden)
    extra = [replace(node, name=f"global {node.name}", text=f"{node.text}, for global tokens") for node in projections]
    norm = one.query_key_norm
    children = [
        _pattern(one.pattern),
        *projections,
        *(extra if one.global_projections else []),
        *([_norm(one.head_size, norm, f"of each {what}") for what in ("query", "key")] if norm else []),
        *([Node(name="rotary", text=f"base {one.rotary.base:g}{_share(one.rotary.share)}")] if one.rotary else []),
        _map("output", one.inner, hidden, one.output_bias),
        _norm(hidden, layer.norm, _NORM_PLACES[layer.norm_place]),
    ]
    shared = f", {plural(one.key_heads, 'key head')}" if one.key_heads else ""
    return _parent("attention", f"{plural(one.heads, 'head')} × {one.head_size}{shared}", children)


def _projections(layer: Layer, hidden: int) -> list[Node]:
    """Query, key and value: told as one where they are alike."""
    one = layer.attention
    if one.key_inner == one.inner:
        alike = _map("q, k, v", hidden, one.inner, one.bias, " each")
        return [replace(alike, parameters=3 * alike.parameters)]
    pair = _map("k, v", hidden, one.key_inner, one.bias, " each")
    return [_map("q", hidden, one.inner, one.bias), replace(pair, parameters=2 * pair.parameters)]


def _share(share: float) -> str:
    return "" if share == 1 else f", {share:g} of each head"


def _pattern(pattern: Pattern) -> Node:
    if not pattern.differs_by_head:
        return Node(name="pattern", text=str(pattern))
    groups = tuple(Node(name=plural(heads, "head"), text=str(one)) for one, heads in pattern.by_head(0))
    return Node(name="pattern", text="per head", children=groups)


def _feed_forward(architecture: Architecture, layer: Layer) -> Node:
    one, hidden = layer.feed_forward, architecture.hidden_size
    gate = [_map("gate", hidden, one.width, one.bias, f", {one.activation}")] if one.gated else []
    children = [
        *gate,
        _map("up", hidden, one.width, one.bias, ", times the gate" if one.gated else f", {one.activation}"),
        _map("down", one.width, hidden, one.bias),
        _norm(hidden, layer.norm, _NORM_PLACES[layer.norm_place]),
    ]
    return _parent("feed-forward", f"{one.width:,} wide", children)


def _top(architecture: Architecture, parts: dict[str, PartCost]) -> Iterator[Node]:
    head, hidden = architecture.head, architecture.hidden_size
    if architecture.final_norm is not None:
        yield replace(_norm(hidden, architecture.final_norm, "of the last states"), name="final norm")
    if architecture.pooler:
        unused = "" if parts["pooler"].applications else " (unused by head)"
        text = f"{hidden:,} → {hidden:,}, tanh{unused}"
        yield Node(name="pooler", text=text, parameters=parts["pooler"].parameters)
    if head is not None:
        parameters = parts["head"].parameters if "head" in parts else 0
        yield Node(name="head", text=head.describe(), parameters=parameters)
