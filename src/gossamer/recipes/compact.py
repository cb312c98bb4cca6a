"""What is zero in a model is removed: a smaller dense model of the same outputs, with widths of its own a layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gossamer.checkpoints import load
from gossamer.checkpoints.compressed import LEAST_ZEROS, share_of_zeros
from gossamer.errors import InputError, plural, quote
from gossamer.families import NATIVE
from gossamer.inspection import cost
from gossamer.layers import Linear
from gossamer.models.architecture import Architecture
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.recipes.receipts.measure import on_cpu, read_measure
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.removal.cut import Cut, cut
from gossamer.recipes.removal.padding import pad
from gossamer.recipes.removal.zeros import find_zeros
from gossamer.recipes.states import compare_states
from gossamer.surgery.storages import merge

__all__ = ["compact"]

PROBE = 128
"""Tokens of the text by which the two models are compared."""


def compact(
    model: Model | str | Path, *, padded: bool = False, measure: bool | Mapping[str, Any] = False
) -> tuple[Model, Receipt]:
    """A copy of a model without what is zero in it as a whole, and a receipt: smaller, faster, the same outputs.

    Heads go, feed-forward neurons, columns inside the heads, and layers of models whose norms stand before the parts:
    each layer has widths of its own then, and what a part without heads or neurons still adds is a bias. Single zeros
    among other weights stay, and bring no speed. Weights that are kept in parts are made whole first. The model that is
    given is left as it was; one without zeros comes back as it is.

    Args:
        model: an encoder or decoder, pruned or not, or what `gossamer.load` takes.
        padded: for `transformers`, where layers differ: all are made as wide as the widest again, with zeros, in the
            public format that the model came from. The receipt says what that costs.
        measure: whether the model is measured before and after, in the receipt's `comparison`; settings of
            `gossamer.compare`, such as {"latency": False}, say how.

    Raises:
        InputError: for `padded` where no public format holds the model even so, and for weights that are not finite.

    Source: Lagunas et al. 2021 (Block Pruning, arXiv 2109.04838), who remove empty heads, rows and columns.
    """
    if not isinstance(padded, bool):
        raise InputError(f"padded is {quote(padded)}; it must be true or false")
    compared = read_measure(measure)
    old = load(model) if isinstance(model, str | Path) else check_model(model)
    check_one_text(old, "compact")
    whole = merge(old) if old.architecture.storages else old
    stays = find_zeros(whole)
    smaller = cut(whole, stays)
    new = pad(smaller) if padded else smaller
    measured, read = compare_states(old, new, [min(PROBE, old.architecture.length)], "compacting")
    zeros, weights = _single_zeros(smaller)
    measured["share_of_zeros_left"] = zeros / max(weights, 1)
    receipt = Receipt(
        recipe="compact",
        source=old.source,
        settings={"padded": True} if padded else {},
        before=_described(old),
        after=_described(new),
        changes=_changes(old, smaller, new),
        measured=measured,
        conditions=conditions(new) | read,
        notes=(*_silent_heads(stays), *_notes(smaller, zeros, weights)),
    )
    new.receipt = receipt if compared is None else receipt.beside(on_cpu(old), on_cpu(new), **compared)
    return new, new.receipt


def _described(model: Model) -> dict[str, Any]:
    """What a receipt says of a model, with the widths of each layer."""
    layers = model.architecture.layers
    return describe(model) | {
        "heads": [layer.attention.heads for layer in layers],
        "head_size": [layer.attention.head_size if layer.attention.heads else 0 for layer in layers],
        "neurons": [layer.feed_forward.width for layer in layers],
    }


def _changes(old: Model, smaller: Model, new: Model) -> tuple[str, ...]:
    before, after = old.architecture, smaller.architecture
    changes = [
        f"{what}: {now:,} of {was:,} stay"
        for what, was, now in (
            ("layers", len(before.layers), len(after.layers)),
            ("heads of all layers", _heads(before), _heads(after)),
            ("feed-forward neurons of all layers", _neurons(before), _neurons(after)),
        )
        if was != now
    ]
    if before.storages:
        changes.append(f"weights that were kept in parts ({before.storages[0].storage.kind}) became whole")
    if not changes and before.layers == after.layers and new is smaller:
        changes.append("nothing was zero as a whole: the model is as it was")
    empty = [i for i, layer in enumerate(after.layers) if not (layer.attention.heads or layer.feed_forward.width)]
    if empty:
        changes.append(f"layers without heads and neurons stay for their norms: {', '.join(map(str, empty))}")
    if new.family == NATIVE.model_type != old.family:
        changes.append(f"format {new.family}: {old.family}'s has one width for all layers, or no such heads")
    elif new.family != old.family:
        changes.append(f"format {new.family}")
    return (*changes, *([] if new is smaller else [_cost_of_padding(smaller, new)]))


def _heads(architecture: Architecture) -> int:
    return sum(layer.attention.heads for layer in architecture.layers)


def _neurons(architecture: Architecture) -> int:
    return sum(layer.feed_forward.width for layer in architecture.layers)


def _cost_of_padding(smaller: Model, padded: Model) -> str:
    """What the zeros take that are added for `transformers`."""
    if padded.architecture == smaller.architecture:
        return f"nothing was padded: {padded.family}'s format holds the model as it is"
    length = min(PROBE, smaller.architecture.length)
    few, many = map(_bytes, (smaller, padded))
    least, most = (cost(model.architecture, length).flops for model in (smaller, padded))
    return (
        f"padded with zeros to one width for all layers, as {padded.family}'s format has it: {many:,} bytes where "
        f"{few:,} would do, and {most:,} FLOPs for a text of {length} tokens where {least:,} would"
    )


def _bytes(model: Model) -> int:
    return sum(tensor.nbytes for tensor in model.parameters())


def _maps(model: Model) -> list[Tensor]:
    """The weights of the layers' maps."""
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, Linear) and name.startswith(("attention.", "feed_forward."))
    ]


def _single_zeros(model: Model) -> tuple[int, int]:
    """Zeros among the weights of the layers' maps, and how many weights those have."""
    maps = _maps(model)
    return sum(int((weight == 0).sum()) for weight in maps), sum(weight.numel() for weight in maps)


def _silent_heads(stays: Cut) -> tuple[str, ...]:
    silent = sum(len(left.silenced) for left in stays.attention.values())
    if not silent:
        return ()
    return (f"{plural(silent, 'head')} with outputs of 0 stay, so that groups that share their keys are equal",)


def _notes(model: Model, zeros: int, weights: int) -> tuple[str, ...]:
    if not zeros:
        return ()
    compressed = sum(share_of_zeros(weight) > LEAST_ZEROS for weight in _maps(model))
    written = f"; Gossamer's own format writes {plural(compressed, 'map')} above {LEAST_ZEROS:.0%} zeros compressed"
    return (
        f"{plural(zeros, 'single weight')} of {weights:,} in the layers are 0 among others: they bring no speed, "
        f"since a product reads them like any other{written if compressed else ''}",
    )
