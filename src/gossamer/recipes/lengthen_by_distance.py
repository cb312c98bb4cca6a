"""A model whose positions are distances alone, such as T5, made to read longer texts: windows, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

from gossamer.checks import require
from gossamer.errors import plural
from gossamer.families import get_family
from gossamer.models.architecture import Architecture, Layer
from gossamer.models.checks import MOST_ROWS
from gossamer.models.model import Model
from gossamer.patterns import Window
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.states import compare_states
from gossamer.surgery.rebuild import rebuild, why_own_format

__all__ = ["is_by_distance", "windowed_by_distance"]

READ = 512
"""Tokens of the texts that T5 learned from (Raffel et al. 2020, section 3.1.1): what the receipt compares."""


def is_by_distance(architecture: Architecture) -> bool:
    """Whether every layer that attends has a table by distance, and positions have no table with an end."""
    attentions = [layer.attention for layer in architecture.layers if layer.attention.heads]
    has_tables = bool(attentions) and all(one.distance_bias is not None for one in attentions)
    return has_tables and architecture.embeddings.positions.reach is None


def windowed_by_distance(model: Model, to: int, windows: tuple[int, ...]) -> tuple[Model, Receipt]:
    """A copy in which each token sees half of its layer's window on either side, and none sees all.

    Distances beyond its table have the numbers of the table's ends already, so no weight is new, and `to` bounds what
    is read at once, whatever the model's length was.

    Raises InputError as `lengthen` does.
    """
    old = model.architecture
    require(type(to) is int and 1 <= to <= MOST_ROWS, "to", to, f"a whole number of tokens from 1 to {MOST_ROWS}")
    layers = tuple(_windowed(layer, window) for layer, window in zip(old.layers, windows, strict=True))
    longer = dataclasses.replace(old, length=to, layers=layers, global_tokens="none")
    new = rebuild(model, longer, {}, lambda name: name)
    lengths = (min(min(windows) // 2 + 1, to), min(READ, to))
    measured, read = compare_states(model, new, lengths, "lengthening")
    settings: dict[str, Any] = {"to": to, "window": windows[0] if len(set(windows)) == 1 else list(windows)}
    new.receipt = Receipt(
        recipe="lengthen",
        source=model.source,
        settings=settings,
        before=describe(model),
        after=describe(new),
        changes=_changes(model, new),
        measured=measured,
        conditions=conditions(new) | read,
    )
    return new, new.receipt


def _windowed(layer: Layer, window: int) -> Layer:
    pattern = Window.from_attention_window(window)
    return dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, pattern=pattern))


def _changes(model: Model, new: Model) -> tuple[str, ...]:
    layers, patterns = (
        new.architecture.layers,
        dict.fromkeys(str(one.attention.pattern) for one in new.architecture.layers),
    )
    which = "" if new.architecture.decoder is None else " that read the first text"
    before = model.architecture.layers[0].attention.pattern
    obstacles = [] if model.family == "gossamer" else get_family(model.family).obstacles(new.architecture)
    return (
        f"attention of the {plural(len(layers), 'layer')}{which}: {before} became {', '.join(patterns)}",
        f"texts of up to {new.architecture.length:,} tokens are read at once; no weight depends on the length",
        "no token is global",
        *why_own_format(new.family, model.family.upper(), obstacles),
    )
