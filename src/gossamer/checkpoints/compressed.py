"""Matrices that are mostly zeros, in a file: a bit for every number, and the numbers that are not zero."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gossamer.errors import InputError, quote

__all__ = ["COMPRESSED", "LEAST_ZEROS", "NONZERO", "PLACES", "compress", "expand", "read_shapes", "share_of_zeros"]

LEAST_ZEROS = 0.85
"""A map with a larger share of zeros is written so."""
COMPRESSED = "compressed"
"""In the file's metadata the shapes of the matrices that are written so, by name."""
NONZERO, PLACES = ".nonzero", ".places"
"""Endings of the two tensors that stand for one."""

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_PARTS = ("attention.", "feed_forward.")
_MOST = 2**48


def share_of_zeros(weight: Tensor) -> float:
    """Of the numbers of a tensor."""
    return float((weight == 0).sum()) / max(weight.numel(), 1)


def compress(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file with weights of layers that are mostly 0 in this form, and what its metadata say of them.

    Only numbers whose bits are all 0 count as zeros, so that -0 comes back as it is.
    """
    out: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        is_map = name.startswith(_PARTS) and name.endswith(".weight") and tensor.ndim == 2
        if not is_map or share_of_zeros(tensor) <= LEAST_ZEROS:
            out[name] = tensor
            continue
        flat = tensor.flatten()
        is_there = flat.view(_BITS[flat.itemsize]) != 0
        out[name + NONZERO] = flat[is_there]
        out[name + PLACES] = torch.from_numpy(np.packbits(is_there.numpy()))
        shapes[name] = list(tensor.shape)
    return out, {COMPRESSED: json.dumps(shapes)} if shapes else {}


def expand(
    nonzero: Float[Tensor, "nonzero"], places: UInt8[Tensor, "bytes"], shape: tuple[int, ...]
) -> Float[Tensor, "outputs inputs"]:
    """The matrix of this shape. Raises ValueError where the two tensors do not go together."""
    count = math.prod(shape)
    if places.dtype != torch.uint8:
        raise ValueError(f"places are {places.dtype}, not bytes")
    is_there = torch.from_numpy(np.unpackbits(places.numpy(), count=count)).bool()
    if int(is_there.sum()) != len(nonzero):
        raise ValueError(f"{len(nonzero)} numbers for {int(is_there.sum())} places")
    whole = nonzero.new_zeros(count)
    whole[is_there] = nonzero
    return whole.view(shape)


def read_shapes(
    where: object, metadata: Mapping[str, str], stored: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The matrices that a file holds in this form, by name. InputError where its tensors are not what it says."""
    if COMPRESSED not in metadata:
        return {}
    try:
        told: Any = json.loads(metadata[COMPRESSED])
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise InputError(f"{where}: its metadata's {COMPRESSED!r} is {quote(metadata[COMPRESSED])}; restore the file")
    shapes = {}
    for name, shape in told.items():
        is_shape = isinstance(shape, list) and len(shape) == 2 and all(type(size) is int and size > 0 for size in shape)
        count = math.prod(shape) if is_shape else 0
        nonzero, places = stored.get(name + NONZERO, ()), stored.get(name + PLACES, ())
        fits = 0 < count <= _MOST and len(nonzero) == 1 and nonzero[0] <= count and places == (-(-count // 8),)
        if not fits or name in stored:
            raise InputError(
                f"{where}: says that tensor {quote(name)} of shape {quote(shape)} is compressed, and what it holds of "
                "it does not fit; restore the file"
            )
        shapes[name] = tuple(shape)
    return shapes
