"""Each layer of a model in a few words and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gossamer.errors import plural
from gossamer.inspection.cost import LayerCost
from gossamer.inspection.summary import Summary
from gossamer.inspection.summary_page.wording import spans
from gossamer.models.architecture import Architecture, Layer
from gossamer.patterns import Pattern

__all__ = ["LayerFacts", "layer_facts", "stack_layers"]


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One layer. `parameters` are of the weight sets that no earlier layer has; `costs`: one for each length."""

    number: int
    heads: str
    cross_heads: str
    pattern: Pattern | None
    width: str
    weights: str
    parameters: int
    costs: tuple[LayerCost, ...]

    @property
    def alike(self) -> tuple[object, ...]:
        """Equal where two layers are told in one row: all but their number."""
        costs = [(one.flops, one.activations) for one in self.costs]
        return self.said, self.parameters, costs

    @property
    def said(self) -> dict[str, str]:
        """What can differ from another layer, by its name."""
        words = {"attention": self.heads, "pattern": "none" if self.pattern is None else str(self.pattern)}
        words |= {"cross-attention": self.cross_heads} if self.cross_heads else {}
        return words | {"feed-forward": self.width, "weights": self.weights}


def stack_layers(architecture: Architecture, of_decoder: bool) -> tuple[Layer, ...]:
    """The layers of the model, or of its decoder, which it may not have."""
    if not of_decoder:
        return architecture.layers
    return () if architecture.decoder is None else architecture.decoder.layers


def layer_facts(summary: Summary, parameters: Mapping[str, int], of_decoder: bool = False) -> list[LayerFacts]:
    """All layers of one stack; `parameters`: of each weight set, by the name of its module."""
    layers = stack_layers(summary.architecture, of_decoder)
    prefix = "decoder." if of_decoder else ""
    costs = [[layer for layer in one.layers if layer.of_decoder == of_decoder] for one in summary.costs]
    seen: set[str] = set()
    found = []
    for i, layer in enumerate(layers):
        fresh = [name for name in _sets(layer).values() if name not in seen]
        seen.update(fresh)
        found.append(
            LayerFacts(
                number=i,
                heads=_heads(layer),
                cross_heads="" if layer.cross_attention is None else _size(layer.cross_attention.heads, layer),
                pattern=layer.attention.pattern if layer.attention.heads else None,
                width=_width(layer),
                weights=_weights(layers, i),
                parameters=sum(parameters[prefix + name] for name in fresh),
                costs=tuple(one[i] for one in costs),
            )
        )
    return found


def _size(heads: int, layer: Layer) -> str:
    size = layer.attention.head_size if layer.cross_attention is None else layer.cross_attention.head_size
    return f"{plural(heads, 'head')} × {size}"


def _heads(layer: Layer) -> str:
    one = layer.attention
    if not one.heads:
        return "no heads"
    fewer = "" if one.key_heads is None else f", {plural(one.key_heads, 'key head')}"
    return f"{plural(one.heads, 'head')} × {one.head_size}{fewer}"


def _width(layer: Layer) -> str:
    one = layer.feed_forward
    return f"{one.width:,} wide{', gated' if one.gated else ''}" if one.width else "no neurons"


def _sets(layer: Layer) -> dict[str, str]:
    """The names of its weight sets, by what they are of."""
    sets = {"attention": f"attention.{layer.attention.weights}"}
    if layer.cross_attention is not None:
        sets["cross-attention"] = f"cross_attention.{layer.cross_attention.weights}"
    if layer.attention.distance_bias is not None:
        sets["distances"] = f"distance_bias.{layer.attention.distance_bias.weights}"
    return sets | {"feed-forward": f"feed_forward.{layer.feed_forward.weights}"}


def _weights(layers: Sequence[Layer], i: int) -> str:
    """Whose they are: "its own", or which layers share those of each part."""
    sharing: dict[str, list[str]] = {}
    for part, name in _sets(layers[i]).items():
        those = [j for j, other in enumerate(layers) if _sets(other).get(part) == name]
        sharing.setdefault(f"shared by {spans(those)}" if len(those) > 1 else "its own", []).append(part)
    if len(sharing) == 1:
        return next(iter(sharing))
    return "; ".join(f"{' and '.join(parts)}: {said}" for said, parts in sharing.items())
