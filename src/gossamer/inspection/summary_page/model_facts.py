"""A model's sizes, and its parameters by part."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.inspection.cost import Cost
from gossamer.inspection.summary import Summary
from gossamer.models.architecture import Layer

__all__ = ["model_facts", "parts_of"]

Fact = int | str
_PARTS = {
    "embeddings": "embeddings",
    "attention": "attention",
    "cross_attention": "cross-attention",
    "distance_bias": "distances",
    "feed_forward": "feed-forward",
    "final_norm": "final norm",
    "pooler": "pooler",
    "head": "head",
}


def model_facts(summary: Summary) -> dict[str, Fact]:
    """What there is to say of the whole, by its name: numbers, or words."""
    one = summary.architecture
    facts: dict[str, Fact] = {
        "parameters": summary.parameters,
        "bytes of weights": summary.parameters * summary.itemsize,
        "kept as": summary.dtype,
        "tokens read at once": one.length,
        "width of states": one.hidden_size,
        "vocabulary": one.embeddings.vocabulary_size,
        "positions": one.embeddings.positions.scheme,
        **_stack(one.layers, ""),
    }
    if one.decoder is not None:
        facts |= {"decoder: tokens": one.decoder.length, **_stack(one.decoder.layers, "decoder: ")}
    facts |= {"residuals": "one stream" if one.reversible == "no" else f"reversible, {one.reversible}"}
    facts |= {} if one.slice_length is None else {"slices of": one.slice_length}
    facts |= {} if not one.storages else {"maps kept in another form": sum(len(kept.maps) for kept in one.storages)}
    return facts | {"head": "none" if one.head is None else one.head.describe()}


def _stack(layers: Sequence[Layer], prefix: str) -> dict[str, Fact]:
    sets = len({one.attention.weights for one in layers}), len({one.feed_forward.weights for one in layers})
    return {
        f"{prefix}layers": len(layers),
        f"{prefix}weight sets of attention": sets[0],
        f"{prefix}weight sets of feed-forward": sets[1],
        f"{prefix}heads in all layers": sum(one.attention.heads for one in layers),
        f"{prefix}neurons in all layers": sum(one.feed_forward.width for one in layers),
    }


def parts_of(known: Cost) -> dict[str, int]:
    """Parameters by part, over all layers, each weight set once."""
    parts: dict[str, int] = {}
    for part in known.parts:
        *before, kind = [word for word in part.name.split(".") if not word.isdigit()]
        name = ": ".join([*before, _PARTS.get(kind, kind)])
        parts[name] = parts.get(name, 0) + part.parameters
    return {name: count for name, count in parts.items() if count}
