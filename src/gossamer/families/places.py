"""Places in an `Architecture`, by dotted paths: reading a value there, and building a whole one of such values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gossamer.models.architecture import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Layer,
    Norm,
    Positions,
)
from gossamer.models.decoder_stack import Decoder
from gossamer.models.heads import Head
from gossamer.patterns import Full

__all__ = ["OMITTED", "assemble", "pick", "values_under"]

OMITTED = object()
"""What a field's `write` returns for a line that is not to be written."""


def pick(architecture: Architecture, path: str) -> Any:
    """The value at a place; OMITTED where this architecture has no such place."""
    parts = path.split(".")
    if parts[0] == "head" and len(parts) == 3:
        is_kind = architecture.head is not None and architecture.head.kind == parts[1]
        return getattr(architecture.head, parts[2], OMITTED) if is_kind else OMITTED
    if parts[0] == "decoder":
        decoder = architecture.decoder
        return OMITTED if decoder is None else _pick(decoder, path.removeprefix("decoder."))
    return _pick(architecture, path)


def _pick(stack: Architecture | Decoder, path: str) -> Any:
    if path == "layers":
        return len(stack.layers)
    if path.startswith("layers."):
        return [_follow(layer, path.removeprefix("layers.")) for layer in stack.layers]
    return _follow(stack, path)


def _follow(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(value, name, OMITTED)
    return value


def values_under(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The values directly under a place: {"embeddings.size": 3} gives {"size": 3} under "embeddings"."""
    return {name: value for name, value in _all_under(values, place).items() if "." not in name}


def _all_under(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    return {path.removeprefix(f"{place}."): value for path, value in values.items() if path.startswith(f"{place}.")}


def assemble(values: Mapping[str, Any], head: Head | None, pooler: bool) -> Architecture:
    """The architecture with these values at these places."""
    second = _all_under(values, "decoder")
    decoder = Decoder(**_stack(second)) if second else None
    return Architecture(**_stack(values), decoder=decoder, pooler=pooler, head=head)


def _stack(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a whole architecture and a decoder have alike."""
    positions = Positions(**values_under(values, "embeddings.positions"))
    embeddings = {**values_under(values, "embeddings"), **_norm(values, "embeddings.norm"), "positions": positions}
    return {
        **{name: value for name, value in values.items() if "." not in name and name != "layers"},
        **_norm(values, "final_norm"),
        "embeddings": Embeddings(**embeddings),
        "layers": tuple(_layer(values, i) for i in range(values["layers"])),
    }


def _layer(values: Mapping[str, Any], i: int) -> Layer:
    own = {path: value[i] if isinstance(value, list) else value for path, value in values.items()}
    attention = {"weights": i, **values_under(own, "layers.attention")}
    feed_forward = {"weights": i, **values_under(own, "layers.feed_forward")}
    crossing = values_under(own, "layers.cross_attention")
    return Layer(
        **values_under(own, "layers"),
        **_norm(own, "layers.norm"),
        attention=Attention(**attention),
        feed_forward=FeedForward(**feed_forward),
        cross_attention=Attention(**{"weights": i, "pattern": Full(), **crossing}) if crossing else None,
    )


def _norm(values: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The norm whose fields lie under a place, by its name; {} where there are none."""
    fields = values_under(values, place)
    return {place.rpartition(".")[2]: Norm(**fields)} if fields else {}
