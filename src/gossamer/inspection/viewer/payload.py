"""What a look found as the page holds it: numbers in few bytes, packed, and a description in JSON."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer.inspection.viewer.kinds import KINDS, NEAR
from gossamer.inspection.viewer.look import LayerLook, Look, PartLook
from gossamer.inspection.viewer.shown_text import ShownText

__all__ = ["FINE", "ROUGH", "Payload", "as_codes", "pack"]

FINE, ROUGH = 16, 4
"""Steps of a code for each halving of a weight: codes tell weights to within 2.2% and 9%."""

MOST_HALVINGS = 15
"""Below which a weight counts as none; whole, so that 1 has a code of its own."""

LEAST_WHOLE = 2.0**-11
"""Of all weights of a short text: what is less is drawn as nothing anyway, and takes most of the bytes."""


@dataclass(frozen=True, kw_only=True)
class Payload:
    """described: JSON-ready; `blobs` are named in it by their places, each packed by gzip and written in base64."""

    described: Mapping[str, Any]
    blobs: tuple[str, ...]


def as_codes(weights: Tensor, steps: int = FINE) -> Tensor:
    """Weights of at most 1 as bytes: 1 + steps * (halvings from the least one), rounded; 0 for what is less."""
    halvings = -torch.log2(weights.clamp(min=2.0**-126).clamp(max=1.0))
    codes = 1 + torch.round(steps * (MOST_HALVINGS - halvings))
    return torch.where(weights >= 2.0**-MOST_HALVINGS, codes, 0.0).to(torch.uint8)


def pack(look: Look, more: Mapping[str, Any]) -> Payload:
    """The description and its blobs; `more` stands beside it in the description."""
    blobs: list[str] = []
    described = {
        "kinds": list(KINDS),
        "near": NEAR,
        "halvings": MOST_HALVINGS,
        "steps": {"fine": FINE, "rough": ROUGH},
        "texts": [_text(one) for one in look.texts],
        "parts": [_part(one, blobs) for one in look.parts],
        **more,
    }
    return Payload(described=described, blobs=tuple(blobs))


def _text(text: ShownText) -> dict[str, Any]:
    starts, stops = zip(*text.spans, strict=True)
    # Offsets count characters, JavaScript's strings count halves of surrogate pairs.
    before = _utf16_places(text.text)
    return {
        "text": text.text,
        "tokens": list(text.tokens),
        "starts": [before[one] for one in starts],
        "stops": [before[one] for one in stops],
        "special": [i for i, one in enumerate(text.special) if one],
        "given": text.given,
    }


def _utf16_places(text: str) -> list[int]:
    places = [0]
    for character in text:
        places.append(places[-1] + (2 if ord(character) > 0xFFFF else 1))
    return places


def _part(part: PartLook, blobs: list[str]) -> dict[str, Any]:
    return {
        "part": part.part, "title": part.title, "queries": part.queries, "keys": part.keys,
        "layers": [_layer(one, blobs) for one in part.layers],
    }  # fmt: skip


def _layer(layer: LayerLook, blobs: list[str]) -> dict[str, Any]:
    heads, rows, columns = layer.blocks.shape
    alike = bool((layer.seen == layer.seen[:1]).all())
    return {
        "layer": layer.number,
        "heads": heads,
        "top": layer.keys.shape[2],
        "pattern": layer.pattern,
        "backends": list(layer.backends),
        "blocks": [rows, columns],
        "kinds": [[round(one, 4) for one in head] for head in layer.kinds.tolist()],
        "keys": _add(blobs, _key_planes(layer.keys)),
        "weights": _add(blobs, [_ranked(as_codes(layer.weights))]),
        "map": None if layer.whole is not None else _add(blobs, [as_codes(layer.blocks)]),
        "seen": _add(blobs, [as_codes(layer.seen[:1] if alike else layer.seen)]),
        "seenAlike": alike,
        "whole": None if layer.whole is None else _add(blobs, [_without_traces(layer.whole)]),
    }


def _without_traces(whole: Tensor) -> Tensor:
    return as_codes(torch.where(whole >= LEAST_WHOLE, whole, 0.0), ROUGH)


def _key_planes(keys: Tensor) -> Iterable[Tensor]:
    """How far each key is from its query, low bytes before high ones, so that like bytes meet: [heads, count, n]."""
    apart = (keys - torch.arange(keys.shape[1])[:, None]).transpose(1, 2) % 65536
    return (apart % 256).to(torch.uint8), (apart // 256).to(torch.uint8)


def _ranked(codes: Tensor) -> Tensor:
    """The codes of the first keys, then how much less each further one has, [heads, count, n]."""
    codes = codes.transpose(1, 2).to(torch.int16)
    return torch.cat([codes[:, :1], codes[:, :-1] - codes[:, 1:]], dim=1).to(torch.uint8)


def _add(blobs: list[str], planes: Iterable[Tensor]) -> int:
    data = b"".join(np.ascontiguousarray(one.numpy()).tobytes() for one in planes)
    # Without a time: the same page for the same numbers.
    blobs.append(base64.b64encode(gzip.compress(data, compresslevel=9, mtime=0)).decode("ascii"))
    return len(blobs) - 1
