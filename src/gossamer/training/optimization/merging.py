"""What a training keeps its maps in, merged: whole weights again, for good or for as long as they are saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import cast

import torch

from gossamer.layers import Linear, Storage
from gossamer.models.model import Model

__all__ = ["merge_maps", "merged"]

Finish = Callable[[Model], None]
"""What is done to a model of whole weights beside, such as setting to 0 what leads nowhere."""


def _nothing(model: Model) -> None:
    pass


def merge_maps(model: Model, finish: Finish = _nothing) -> None:
    """Make the weights of all maps whole again, in place."""
    for part in _stored(model):
        part.merge()
    model.architecture = dataclasses.replace(model.architecture, storages=())
    finish(model)


@contextmanager
def merged(model: Model, finish: Finish = _nothing, touched: Collection[str] = ()) -> Iterator[None]:
    """The model with whole weights inside the block, and as it was, to the bit, after it.

    touched: maps that `finish` may change beside those that are merged.
    """
    parts = {id(one): one for one in (*_stored(model), *(cast(Linear, model.get_submodule(name)) for name in touched))}
    before = [_State.of(part) for part in parts.values()]
    architecture = model.architecture
    merge_maps(model, finish)
    try:
        yield
    finally:
        model.architecture = architecture
        for state in before:
            state.restore()


@dataclasses.dataclass(frozen=True)
class _State:
    """How a map was kept, and copies of what merging changes in place."""

    part: Linear
    storage: Storage
    parameters: dict[str, torch.nn.Parameter | None]
    values: dict[str, torch.Tensor]

    @classmethod
    def of(cls, part: Linear) -> _State:
        names = [name for name in ("weight", "bias") if part._parameters[name] is not None]
        values = {name: part.get_parameter(name).detach().clone() for name in names}
        return cls(part, part.storage, dict(part._parameters), values)

    @torch.no_grad()
    def restore(self) -> None:
        self.part.storage = self.storage
        self.part._parameters.clear()
        self.part._parameters.update(self.parameters)
        for name, value in self.values.items():
            self.part.get_parameter(name).copy_(value)


def _stored(model: Model) -> list[Linear]:
    names = [name for stored in model.architecture.storages for name in stored.maps]
    return [cast(Linear, model.get_submodule(name)) for name in names]
