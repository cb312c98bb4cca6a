"""What recipes share: another storage for the weights of some linear maps, with the same outputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch

from gossamer.errors import InputError, quote
from gossamer.families import family_for
from gossamer.layers import DENSE, Linear, Storage
from gossamer.models.architecture import StoredMaps
from gossamer.models.model import Model
from gossamer.surgery.rebuild import rebuild

__all__ = ["merge", "store"]

_FORMAT = "model_type_of_whole_weights"


def store(model: Model, maps: Collection[str], storage: Storage) -> Model:
    """A copy of the model that keeps the weights of these linear maps in this way, whatever way they are kept in now.

    maps: names of modules, such as "attention.0.query". A public format, which has no word for storages, is remembered
    (in `extra_config`, so that it is saved) and taken up again once all weights are whole. Raises InputError for what
    is no linear map of the model, and where the storage cannot keep one.
    """
    linears = {name: one for name, one in model.named_modules() if isinstance(one, Linear)}
    if unknown := sorted(set(maps) - set(linears)):
        raise InputError(f"maps has {quote(unknown[0])}; the model has no linear map of that name")
    kept = [
        replace(one, maps=tuple(name for name in one.maps if name not in maps))
        for one in model.architecture.storages
        if not set(one.maps) <= set(maps)
    ]
    new = [] if storage == DENSE or not maps else [StoredMaps(maps=tuple(sorted(maps)), storage=storage)]
    with torch.no_grad():
        weights = {
            f"{name}.{part}": tensor.clone()
            for name in maps
            for part, tensor in storage.tensors(linears[name].whole_weight()).items()
        }
    result = rebuild(model, replace(model.architecture, storages=(*kept, *new)), weights, source=str)
    if result.architecture.storages:
        result.extra_config.setdefault(_FORMAT, model.family)
    else:
        before = result.extra_config.pop(_FORMAT, model.family)
        result.family = family_for(result.architecture, before).model_type
    return result


def merge(model: Model) -> Model:
    """A copy of the model whose weights are all whole again, in the format that it had before they were not."""
    return store(model, {name for one in model.architecture.storages for name in one.maps}, DENSE)
