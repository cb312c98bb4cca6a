"""The dropout rates of a model, changed for a while."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

from gossamer.checks import require
from gossamer.models.architecture import Architecture
from gossamer.models.model import Model

__all__ = ["set_dropout", "with_dropout"]

_OF_HEADS = ("dropout", "input_dropout")
"""What the modules of heads call their rates."""


def with_dropout(architecture: Architecture, rate: float | None) -> Architecture:
    """The same model where every rate of dropout above 0 is this one; None leaves them.

    InputError for a rate above 0 of a model that has none.
    """
    if rate is None:
        return architecture
    rates: list[float] = []
    changed: Architecture = _changed(architecture, rate, rates)
    require(rate == 0 or bool(rates), "dropout", rate, "0, or left out: the model drops nothing anywhere")
    return changed


def set_dropout(model: Model, rate: float | None) -> Callable[[], None]:
    """Give a model these rates, in place; what is returned gives it its own back, but for its architecture.

    Those of layers are read of the architecture in each pass; embeddings and heads have their own.
    """
    model.architecture = with_dropout(model.architecture, rate)
    if rate is None:
        return lambda: None
    embeddings = [model.embeddings] if model.decoder is None else [model.embeddings, model.decoder.embeddings]
    places: list[tuple[nn.Module, str]] = [(one.dropout, "p") for one in embeddings]
    places += [
        (module, name) for module in (model.head.modules() if model.head is not None else ()) for name in _OF_HEADS
    ]
    before = [(module, name, value) for module, name in places if (value := _rate(module, name))]
    for module, name, _ in before:
        setattr(module, name, float(rate))

    def restore() -> None:
        for module, name, value in before:
            setattr(module, name, value)

    return restore


def _rate(module: nn.Module, name: str) -> float:
    value = getattr(module, name, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def _changed(described: Any, rate: float, rates: list[float]) -> Any:
    """A part of a description with its rates above 0 changed, which are noted."""
    if isinstance(described, tuple):
        return tuple(_changed(one, rate, rates) for one in described)
    if not dataclasses.is_dataclass(described) or isinstance(described, type):
        return described
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(described):
        value = getattr(described, field.name)
        if field.name == "storages":  # adapters have a rate of their own, which a config names
            continue
        if field.name.endswith("dropout"):
            if value:
                rates.append(value)
                changes[field.name] = float(rate)
        elif (new := _changed(value, rate, rates)) != value:
            changes[field.name] = new
    return dataclasses.replace(described, **changes) if changes else described
