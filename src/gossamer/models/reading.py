"""A description from the nested dicts that JSON holds: what `Architecture.from_dict` reads, brick by brick."""

from __future__ import annotations

import dataclasses
from typing import Any

from gossamer.errors import InputError, quote
from gossamer.layers import storage_from_dict
from gossamer.models.bricks import (
    Attention,
    DistanceTable,
    Embeddings,
    FeedForward,
    Norm,
    Positions,
    RelativePositions,
    Rotary,
    StoredMaps,
)
from gossamer.models.checks import MOST_LAYERS, require
from gossamer.models.decoder_stack import Decoder
from gossamer.models.heads import DenseLayer, Head
from gossamer.models.layer import Layer
from gossamer.patterns import pattern_from_dict

__all__ = [
    "build",
    "read_decoder",
    "read_embeddings",
    "read_head",
    "read_layers",
    "read_norm",
    "read_object",
    "read_storages",
]


def read_object(data: object, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InputError(f"{where} is {quote(data)}; it must be an object with fields")
    return data


def build(cls: Any, data: object, where: str) -> Any:
    given = read_object(data, where)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(given) - set(fields))
    missing = sorted(name for name, f in fields.items() if f.default is dataclasses.MISSING and name not in given)
    if unknown or missing:
        raise InputError(f"{where} has unknown fields {unknown} and lacks {missing}; known are {sorted(fields)}")
    try:
        return cls(**given)
    except InputError as problem:
        raise InputError(f"{where}.{problem}") from None


def read_embeddings(data: object) -> Embeddings:
    fields = read_object(data, "embeddings")
    given = read_object(fields.get("positions"), "embeddings.positions")
    tuples = {name: tuple(given[name]) for name in ("axes", "axis_sizes") if isinstance(given.get(name), list)}
    given = {**given, **tuples}
    positions = build(Positions, given, "embeddings.positions")
    parts = {"positions": positions} | _norms(fields, "norm", "embeddings")
    return build(Embeddings, {**fields, **parts}, "embeddings")


def _layer(data: object, where: str) -> Layer:
    fields = read_object(data, where)
    crossing, place = fields.get("cross_attention"), fields.get("norm_place")
    parts = {
        **({"norm_place": tuple(place)} if isinstance(place, list) else {}),
        "attention": _attention(fields.get("attention"), f"{where}.attention"),
        "cross_attention": None if crossing is None else _attention(crossing, f"{where}.cross_attention"),
        "feed_forward": build(FeedForward, fields.get("feed_forward"), f"{where}.feed_forward"),
        **_norms(fields, "norm", where),
    }
    return build(Layer, {**fields, **parts}, where)


def _attention(data: object, where: str) -> Attention:
    fields = read_object(data, where)
    pattern = pattern_from_dict(read_object(fields.get("pattern"), f"{where}.pattern"))
    rotary = fields.get("rotary")
    inner = {
        "pattern": pattern,
        "rotary": None if rotary is None else build(Rotary, rotary, f"{where}.rotary"),
        "distance_bias": _distances(fields.get("distance_bias"), f"{where}.distance_bias"),
        **_norms(fields, "query_key_norm", where),
    }
    return build(Attention, {**fields, **inner}, where)


def _distances(data: object, where: str) -> DistanceTable | RelativePositions | None:
    if data is None:
        return None
    fields = read_object(data, where)
    if "kind" not in fields:
        return build(DistanceTable, fields, where)
    kind = RelativePositions.kind
    require(fields["kind"] == kind, f"{where}.kind", fields["kind"], f"{kind!r}, or left out for a table of numbers")
    terms = fields.get("terms")
    parts = {**({"terms": tuple(terms)} if isinstance(terms, list) else {}), **_norms(fields, "norm", where)}
    return build(RelativePositions, {**fields, **parts}, where)


def read_layers(data: object, where: str) -> tuple[Layer, ...]:
    """A list of layers."""
    if not isinstance(data, (list, tuple)):
        raise InputError(f"{where} is {quote(data)}; it must be a list of layers")
    require(len(data) <= MOST_LAYERS, "number of layers", len(data), f"from 1 to {MOST_LAYERS}")
    place = where.removeprefix("architecture.")
    return tuple(_layer(one, f"{place}[{i}]") for i, one in enumerate(data))


def read_decoder(data: object) -> Decoder | None:
    """The stack of a second text, or None for none."""
    if data is None:
        return None
    fields = read_object(data, "decoder")
    parts = {
        "layers": read_layers(fields.get("layers"), "decoder.layers"),
        "embeddings": read_embeddings(fields.get("embeddings")),
        "final_norm": read_norm(fields.get("final_norm"), "decoder.final_norm"),
    }
    return build(Decoder, {**fields, **parts}, "decoder")


def read_storages(data: object) -> tuple[StoredMaps, ...]:
    if not isinstance(data, (list, tuple)):
        raise InputError(f"storages is {quote(data)}; it must be a list of maps with their storage")
    found = []
    for i, one in enumerate(data):
        fields = read_object(one, f"storages[{i}]")
        maps, storage = fields.get("maps"), storage_from_dict(fields.get("storage"))
        parts = {"maps": tuple(maps) if isinstance(maps, list) else maps, "storage": storage}
        found.append(build(StoredMaps, {**fields, **parts}, f"storages[{i}]"))
    return tuple(found)


def _norms(fields: dict[str, Any], name: str, where: str) -> dict[str, Norm | None]:
    """The norm of this name as a value, where the fields have one."""
    return {name: read_norm(fields[name], f"{where}.{name}")} if name in fields else {}


def read_norm(data: object, where: str) -> Norm | None:
    return None if data is None else build(Norm, data, where)


def read_head(data: object) -> Head | None:
    if data is None:
        return None
    kind = read_object(data, "head").get("kind")
    if not isinstance(kind, str) or kind not in Head.kinds:
        raise InputError(f"head.kind is {quote(kind)}; it must be one of {', '.join(Head.kinds)}")
    settings = Head.kinds[kind]
    names = {one.name for one in dataclasses.fields(settings)}  # type: ignore[arg-type]
    lists = {name: value for name, value in data.items() if name in names and isinstance(value, list)}  # type: ignore
    parts: dict[str, Any] = _norms(data, "norm", "head")  # type: ignore[arg-type]
    if "labels" in lists:
        parts["labels"] = tuple(lists["labels"])
    if "dense" in lists:
        parts["dense"] = tuple(build(DenseLayer, one, f"head.dense[{i}]") for i, one in enumerate(lists["dense"]))
    return build(settings, {**data, **parts}, "head")  # type: ignore
