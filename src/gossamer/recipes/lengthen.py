"""Make a pretrained encoder read longer texts: windowed attention, copied positions (Longformer, sections 3 and 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.families import family_for
from gossamer.models.architecture import MOST_ROWS, Architecture, Layer
from gossamer.models.encoder import Model
from gossamer.patterns import Full, Global, Window
from gossamer.recipes.receipt import Receipt, conditions, describe
from gossamer.text import speeches

__all__ = ["lengthen"]

_PROJECTIONS = ("query", "key", "value")


def lengthen(model: Model, to: int = 4096, window: int | Sequence[int] = 512) -> tuple[Model, Receipt]:
    """A copy of an encoder that reads `to` tokens, each seeing `window` / 2 on either side and all global tokens.

    The learned positions are repeated until they fill the longer table, and the global projections start as copies of
    the local ones, so a text that a window covers (up to window / 2 + 1 tokens) gives the outputs of the original;
    the receipt says how closely it did. No weight is trained. The given model is left as it was.

    Args:
        model: an encoder with full attention and learned absolute positions.
        to: tokens that the new model reads at once, at least as many as the model reads now.
        window: Longformer's `attention_window`, an even number of tokens; or one for each layer, in order.

    Raises:
        InputError: `to` below the model's length, a window that is odd or not positive, the wrong number of windows,
            or a model that has no full attention to replace.

    Source: Beltagy et al. 2020 (arXiv 2004.05150), sections 3.1 and 5. As there, position embeddings are copied, not
    interpolated; unlike there, nothing is trained afterwards.
    """
    windows = _windows(window, len(model.architecture.layers))
    architecture = _lengthened(model.architecture, to, windows)
    new = _build(model, architecture)
    new.load_state_dict(_weights(model, new), assign=True)
    new.train(model.training)
    settings = {"to": to, "window": windows[0] if len(set(windows)) == 1 else list(windows)}
    receipt = Receipt(
        recipe="lengthen",
        source=model.source,
        settings=settings,
        before=describe(model),
        after=describe(new),
        changes=_changes(model.architecture, architecture),
        measured=_measured(model, new, min(windows)),
        conditions=conditions(),
    )
    new.receipt = receipt
    return new, receipt


def _windows(window: int | Sequence[int], layers: int) -> tuple[int, ...]:
    windows = (window,) * layers if isinstance(window, int) else tuple(window)
    if len(windows) != layers:
        raise InputError(
            f"window has {len(windows)} entries; the model has {layers} layers: give one number or {layers}"
        )
    for one in windows:
        Window.from_attention_window(one)
    return windows


def _lengthened(old: Architecture, to: int, windows: tuple[int, ...]) -> Architecture:
    if type(to) is not int or not old.length <= to < MOST_ROWS - 2:
        raise InputError(
            f"to is {to!r}; it must be a whole number of tokens from {old.length}, what the model reads now, on"
        )
    for i, layer in enumerate(old.layers):
        if layer.attention.pattern != Full():
            raise InputError(f"layer {i} attends by '{layer.attention.pattern}'; lengthen replaces full attention only")
    padding = old.embeddings.padding_id or 0
    positions = dataclasses.replace(old.embeddings.positions, length=to, offset=padding + 1, from_padding=True)
    embeddings = dataclasses.replace(old.embeddings, positions=positions, padding_id=padding)
    layers = tuple(_windowed(layer, window) for layer, window in zip(old.layers, windows, strict=True))
    return dataclasses.replace(old, embeddings=embeddings, layers=layers)


def _windowed(layer: Layer, window: int) -> Layer:
    pattern = Window.from_attention_window(window) | Global()
    attention = dataclasses.replace(layer.attention, pattern=pattern, global_projections=True)
    return dataclasses.replace(layer, attention=attention)


def _build(model: Model, architecture: Architecture) -> Model:
    family = family_for(architecture, model.family).model_type
    tokenizer = None if model.tokenizer is None else model.tokenizer.with_max_length(architecture.length)
    with torch.device("meta"):
        new = Model(architecture, family=family, tokenizer=tokenizer)
    new.extra_config = dict(model.extra_config)
    new.source = model.source
    return new


def _weights(old: Model, new: Model) -> dict[str, Tensor]:
    """The old weights, copied; positions repeated, global projections taken from the local ones."""
    have = old.state_dict()
    weights = {}
    for name in new.state_dict():
        source = name
        for projection in _PROJECTIONS:
            source = source.replace(f".{projection}_global.", f".{projection}.")
        weights[name] = have[name if name in have else source].detach().clone()
    weights["embeddings.position.weight"] = _positions(
        have["embeddings.position.weight"], old.architecture, new.architecture
    )
    return weights


def _positions(table: Tensor, old: Architecture, new: Architecture) -> Tensor:
    """The usable rows repeated to the new length, after the rows that lie before position 0 (new ones are zero)."""
    before, after = old.embeddings.positions, new.embeddings.positions
    head = table.new_zeros(after.offset, table.shape[1])
    kept = min(before.offset, after.offset)
    head[:kept] = table[:kept]
    usable = table[before.offset :]
    rows = torch.arange(after.length, device=table.device) % before.length
    return torch.cat([head, usable[rows]]).detach()


def _changes(old: Architecture, new: Architecture) -> tuple[str, ...]:
    copies = -(-new.length // old.length)
    offset = new.embeddings.positions.offset
    changes = [
        f"attention of {len(new.layers)} layers: {old.layers[0].attention.pattern} became a window with global tokens",
        f"positions: {old.length} learned rows, copied {copies} times over to {new.length}",
        "global query, key and value projections: copies of the local ones",
    ]
    if old.embeddings.positions.offset != offset:
        changes.append(f"position table: shifted down by {offset - old.embeddings.positions.offset} row, for padding")
    return tuple(changes)


@torch.no_grad()
def _measured(old: Model, new: Model, window: int) -> dict[str, float]:
    """Relative differences of the states: on a text that every window covers, and on the longest that the old reads."""
    covered = min(window // 2 + 1, old.architecture.length)
    measured = {}
    for length in dict.fromkeys((covered, old.architecture.length)):
        ids = _probe(new, length).to(next(old.parameters()).device)
        before, after = (_states(model, ids) for model in (old, new))
        measured[f"relative_difference_at_{length}_tokens"] = float((after - before).norm() / before.norm())
    return measured


def _probe(model: Model, length: int) -> Tensor:
    """Token ids [1, length]: the first shipped speech that is long enough, or seeded random ids where there is none."""
    if model.tokenizer is not None:
        for speech in speeches():
            ids = model.tokenizer(speech.text, max_length=length)["input_ids"]
            if ids.shape[1] == length:
                return ids
    sizes = model.architecture.embeddings
    ids = torch.randint(0, sizes.vocabulary_size, (1, length), generator=torch.Generator().manual_seed(0))
    return ids.masked_fill(ids == sizes.padding_id, (sizes.padding_id or 0) ^ 1)


def _states(model: Model, ids: Tensor) -> Tensor:
    training = model.training
    states = model.eval()(ids).last_hidden_state.double()
    model.train(training)
    return states
