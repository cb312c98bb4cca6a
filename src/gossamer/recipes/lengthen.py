"""Make a pretrained encoder read longer texts: windowed attention, copied positions (Longformer, sections 3 and 5)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gossamer.checks import is_whole, require
from gossamer.errors import InputError, plural, quote, remark
from gossamer.families import get_family
from gossamer.models.architecture import Architecture, Embeddings, GlobalTokens, Layer, RelativePositions
from gossamer.models.checks import MOST_ROWS
from gossamer.models.heads import Head
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.patterns import Full, Global, Hashed, Window
from gossamer.recipes.lengthen_by_distance import is_by_distance, windowed_by_distance
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.states import changed_dropout, compare_states
from gossamer.surgery.rebuild import fit, fit_positions, rebuild, why_own_format

__all__ = ["NewPositions", "check_windows", "lengthen"]

NewPositions = Literal["copied", "random"]

DEFAULT_WINDOW = 512
_POSITIONS, _TOKEN_TYPES = "embeddings.position.weight", "embeddings.token_type.weight"
_WRITTEN_POSITIONS = f"decoder.{_POSITIONS}"
_CALLED = {"longformer": "Longformer", "led": "LED"}
_REFUSED_FROM = 1.75
"""Windows of so many times the old length read two copies of most positions as one (measured: docs/lengthen.md)."""


def lengthen(
    model: Model,
    to: int = 4096,
    window: int | Sequence[int] | None = None,
    *,
    global_tokens: GlobalTokens | None = None,
    positions: NewPositions = "copied",
    seed: int = 0,
    force: bool = False,
    pattern: Literal["window", "hashed"] | Hashed = "window",
) -> tuple[Model, Receipt]:
    """A copy of an encoder, with a decoder or alone, that reads `to` tokens, each seeing `window` / 2 on either side.

    All see the global tokens, too. The learned positions are repeated until they fill the longer table, and the global
    projections start as copies of the local ones, so a text that a window covers (up to window / 2 + 1 tokens) gives
    the outputs of the original; the receipt says how closely it did. No weight is trained. The given model is left as
    it was. As in every Longformer, positions count the tokens that are no padding: padding on the left changes no
    state, where BERT counts it (labels of whole texts are read at the first position, as in `transformers`: pad on the
    right). Any head is kept, with its labels, and takes its own global tokens too. Where nothing else stands in the way
    of Longformer's format, what does not change the outputs is fitted to it: dropout rates, and a zero row for the
    token type that DistilBERT has not. Weights that layers share (ALBERT) stay shared, the copies too. Of two texts the
    first becomes longer, BART an LED, which counts all tokens; T5, whose positions are distances, gets windows alone.

    With the pattern "hashed" each token sees those whose keys its query points at, near or far (`Hashed`: four rounds,
    queries and keys hashed apart, buckets of some 64 tokens at that length), and texts as long as the model reads now
    are read with full attention, as they were. No token is global, positions count as they did, and the format is
    Gossamer's own.

    Args:
        model: an encoder with full attention, and learned absolute positions or a table by distance.
        to: tokens that the new model reads at once, at least as many as the model reads now; T5 has no such bound.
        window: Longformer's `attention_window`, an even number of tokens, 512 unless given; or one for each layer, in
            order.
        global_tokens: of windows; "first", unless given: without a `global_mask` each text's first real token, which
            takes a large part of the attention (docs/lengthen.md), is global beside those of the head; "none": the
            head's alone.
        positions: "copied", or "random": positions beyond the old length are drawn, normal of the model's
            `initializer_range`, by `seed`. That is worse, and there to be compared (Longformer, table 5).
        seed: of the random positions.
        force: take a window of 1.75 times the old length or more, which holds most copied positions twice.
        pattern: "window"; "hashed", or a `Hashed` of one's own, which looks both ways: then `window`, `global_tokens`
            and `force` are left out.

    Raises:
        InputError: `to` below the model's length or beyond what memory holds, a window that is odd, not positive or too
            wide, the wrong number of windows, weights that give no finite states, or no full attention to replace.

    Source: Beltagy et al. 2020 (arXiv 2004.05150), sections 3.1 and 5. There it is trained afterwards: `heal`. Hashing:
    Kitaev et al. 2020 (arXiv 2001.04451), section 2.
    """
    _check_options(global_tokens, positions, seed, force)
    _check_attention(model)
    if is_by_distance(model.architecture):
        return _by_distance(model, to, window, global_tokens, positions, force, pattern)
    if pattern != "window":
        _check_left_out(window, global_tokens, force)
        return _by_hashes(model, to, pattern, positions, seed)
    window = DEFAULT_WINDOW if window is None else window
    return _by_windows(model, to, window, global_tokens or "first", positions, seed, force)


def _check_left_out(window: object, global_tokens: object, force: object) -> None:
    left_out = "left out where the pattern is hashed"
    require(window is None, "window", window, left_out)
    require(global_tokens is None, "global_tokens", global_tokens, left_out)
    require(not force, "force", force, left_out)


def _by_distance(
    model: Model, to: int, window: int | Sequence[int] | None, global_tokens: GlobalTokens | None,
    positions: NewPositions, force: bool, pattern: object,
) -> tuple[Model, Receipt]:  # fmt: skip
    why = "where positions are distances alone"
    require(pattern == "window", "pattern", pattern, f"'window' {why}")
    require(global_tokens in (None, "none"), "global_tokens", global_tokens, f"'none', or left out, {why}")
    require(positions == "copied", "positions", positions, f"left out {why}: there is no table of positions")
    require(not force, "force", force, f"left out {why}")
    window = DEFAULT_WINDOW if window is None else window
    check_windows(window)
    return windowed_by_distance(model, to, _windows(window, len(model.architecture.layers)))


def _by_windows(
    model: Model, to: int, window: int | Sequence[int], global_tokens: GlobalTokens, positions: NewPositions, seed: int,
    force: bool,
) -> tuple[Model, Receipt]:  # fmt: skip
    check_windows(window)
    windows = _windows(window, len(model.architecture.layers))
    longer = _lengthened(model.architecture, to, windows)
    notes = () if positions == "random" else _remark_on_copies(model.architecture.length, to, max(windows), force)
    two_texts = longer.decoder is not None
    separator = None if two_texts else _separator(model)
    longer = dataclasses.replace(longer, separator_id=separator, global_tokens=global_tokens)
    wanted = "led" if two_texts else "longformer"
    architecture, obstacles = (fit_positions if two_texts else fit)(longer, get_family(wanted))
    new = rebuild(model, architecture, _new_weights(model, architecture, seed, positions), _local)
    measured, read = compare_states(model, new, _lengths(model.architecture.length, min(windows)), "lengthening")
    new.receipt = Receipt(
        recipe="lengthen",
        source=model.source,
        settings=_settings(to, windows, global_tokens, positions, seed, force),
        before=describe(model),
        after=describe(new),
        changes=_changes(model.architecture, new, positions, wanted, obstacles),
        measured=measured,
        conditions=conditions(new) | read,
        notes=notes,
    )
    return new, new.receipt


def _by_hashes(model: Model, to: int, pattern: object, positions: NewPositions, seed: int) -> tuple[Model, Receipt]:
    old = model.architecture
    _check_length(old, to, old.embeddings.positions.offset)
    hashed = _usual_hashes(to, old.length) if pattern == "hashed" else pattern
    allowed = "'window', 'hashed', or a Hashed that looks both ways (causal=False)"
    require(isinstance(hashed, Hashed) and not hashed.causal, "pattern", pattern, allowed)
    assert isinstance(hashed, Hashed)
    layers = tuple(
        dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, pattern=hashed))
        for layer in old.layers
    )
    table = dataclasses.replace(old.embeddings, positions=dataclasses.replace(old.embeddings.positions, length=to))
    longer = dataclasses.replace(old, length=to, embeddings=table, layers=layers, global_tokens="none")
    new = rebuild(model, longer, _new_weights(model, longer, seed, positions), _local)
    read = min(old.length, hashed.hashes.whole) or old.length
    measured, there = compare_states(model, new, (read, old.length), "lengthening")
    settings: dict[str, Any] = {"to": to, "pattern": hashed.to_dict()}
    new.receipt = Receipt(
        recipe="lengthen",
        source=model.source,
        settings=settings | ({"positions": positions, "seed": seed} if positions == "random" else {}),
        before=describe(model),
        after=describe(new),
        changes=(
            *_what_became(old, new, positions),
            f"texts of at most {hashed.hashes.whole:,} tokens are not hashed: they are read with full attention",
            "no token is global: what a token sees is told by buckets alone",
        ),
        measured=measured,
        conditions=conditions(new) | there,
    )
    return new, new.receipt


def _usual_hashes(to: int, whole: int) -> Hashed:
    """Buckets of about 64 tokens each, in two factors where one rotation to all of them would be large."""
    buckets = max(2, 2 * (to // 128))
    root = 2 * math.ceil(math.sqrt(buckets) / 2)
    return Hashed(
        rounds=4,
        buckets=buckets if buckets <= 128 else (root, root),
        chunk=None,
        causal=False,
        whole=whole,
        itself=True,
    )


def _settings(
    to: int, windows: Sequence[int], global_tokens: GlobalTokens, positions: NewPositions, seed: int, force: bool
) -> dict[str, Any]:
    """What was asked for, as the receipt tells it: what nobody asks for is left out."""
    settings: dict[str, Any] = {"to": to, "window": windows[0] if len(set(windows)) == 1 else list(windows)}
    settings["global_tokens"] = global_tokens
    settings |= {"force": True} if force else {}
    return settings | ({"positions": positions, "seed": seed} if positions == "random" else {})


def _check_options(global_tokens: object, positions: object, seed: object, force: object) -> None:
    if global_tokens is not None and global_tokens not in get_args(GlobalTokens):
        raise InputError(f"global_tokens is {quote(global_tokens)}; it must be 'first' or 'none'")
    if not isinstance(force, bool):
        raise InputError(f"force is {quote(force)}; it must be true or false")
    if positions not in get_args(NewPositions):
        raise InputError(f"positions is {quote(positions)}; it must be 'copied' or 'random'")
    require(is_whole(seed, 0, 2**63 - 1), "seed", seed, "a whole number, 0 or more")


def _check_attention(model: Model) -> None:
    check_model(model)
    if any(isinstance(one.attention.distance_bias, RelativePositions) for one in model.architecture.layers):
        raise InputError(
            "the model compares content with states of distances (RelativePositions), which dense attention alone "
            "reads, so that windows would save nothing; docs/families.md says how it reads longer texts as it is"
        )
    by_distance = is_by_distance(model.architecture)
    has_table = any(one.attention.distance_bias for one in model.architecture.layers)
    if not model.architecture.is_decoder and has_table and not by_distance:
        raise InputError(
            "the model's attention has a table by distance (distance_bias) beside positions of its own, and lengthen "
            "gives such a model's layers global projections, which do not go with one: it is for encoders with learned "
            "absolute positions or with distances in every layer, not both"
        )
    if not model.architecture.is_decoder and not by_distance:
        _check_positions(model.architecture)
    for i, layer in enumerate(model.architecture.layers):
        if layer.attention.pattern != Full():
            raise InputError(
                f"layer {i} attends by '{layer.attention.pattern}'; lengthen replaces full attention only: "
                "give it the original model and the length you want"
            )


def _check_positions(architecture: Architecture) -> None:
    """Refuse positions that are not a learned table of the embeddings, or are more than that: the table is copied."""
    positions = architecture.embeddings.positions
    rotary = next((layer.attention.rotary for layer in architecture.layers if layer.attention.rotary), None)
    if rotary is None and positions.scheme == "learned":
        return
    kind = f"of the scheme {positions.scheme!r}" if rotary is None else f"rotary, of base {rotary.base:g}"
    said = f"the model's positions are {kind}, and lengthen copies learned ones alone"
    if positions.reach is None:
        said += (
            ": to read longer texts with it, raise its length (max_position_embeddings in config.json), on which no "
            "weight depends"
        )
    raise InputError(said)


def _windows(window: Any, layers: int) -> tuple[int, ...]:
    windows = tuple(window) if _several(window) else (window,) * layers
    if len(windows) != layers:
        raise InputError(
            f"window has {plural(len(windows), 'entry', 'entries')}; the model has {plural(layers, 'layer')}: give one "
            f"number or {layers}"
        )
    return windows


def _several(window: Any) -> bool:
    return isinstance(window, Sequence) and not isinstance(window, str | bytes)


def check_windows(window: Any) -> None:
    """Refuse what can be no window of any model; InputError as `lengthen` raises it."""
    several = _several(window)
    for i, width in enumerate(window if several else (window,)):
        name = f"window[{i}]" if several else "window"
        if type(width) is not int or not 2 <= width < MOST_ROWS:
            raise InputError(f"{name} is {quote(width)}; it must be an even whole number from 2 to {MOST_ROWS - 1}")
        if width % 2:
            raise InputError(
                f"{name} is {width}; it must be even, half of it to either side: take "
                f"{max(width - 1, 2)} or {width + 1}"
            )


def _lengthened(old: Architecture, to: int, windows: tuple[int, ...]) -> Architecture:
    padding = None if old.decoder is not None else old.embeddings.padding_id
    _check_length(old, to, old.embeddings.positions.offset if padding is None else padding + 1)
    widest = max(2 * to, DEFAULT_WINDOW)
    if max(windows) > widest:
        # It would see no more, and transformers would pad every text to a multiple of it.
        raise InputError(f"window is {max(windows)}; it must be at most {widest}: a wider one sees no more")
    layers = tuple(_windowed(layer, window) for layer, window in zip(old.layers, windows, strict=True))
    return dataclasses.replace(old, length=to, embeddings=_counted(old, to), layers=layers)


def _check_length(old: Architecture, to: object, before: int) -> None:
    """Refuse fewer tokens than there are, and a table too long for so many rows before position 0."""
    most = MOST_ROWS - before
    if type(to) is not int or not old.length <= to <= most:
        raise InputError(
            f"to is {quote(to)}; it must be a whole number of tokens from {old.length}, what the model reads now, "
            f"to {most}"
        )


def _remark_on_copies(old: int, to: int, window: int, force: bool) -> tuple[str, ...]:
    """Say where a window holds positions twice, which attention reads as one; InputError where most of them."""
    if to <= old or window <= old:
        return ()
    said = (
        f"window is {window}, {window / old:.3g} times the {old} positions that the model learned: "
        "a token sees copies of one position as the same place"
    )
    if window >= _REFUSED_FROM * old and not force:
        narrower = max(old // 4 * 2, 2)
        raise InputError(f"{said}; take {narrower} (half as many, as good and cheaper), or give force=True to try it")
    note = f"{said}; a window of {max(old // 4 * 2, 2)} is as good and cheaper"
    remark(note)
    return (note,)


def _separator(model: Model) -> int | None:
    """The token between two texts, which ends a question: the model's own, else its tokenizer's or its config's."""
    known = model.architecture.separator_id
    named = (getattr(model.tokenizer, "sep_id", None), model.extra_config.get("sep_token_id"))
    size = model.architecture.embeddings.vocabulary_size
    return next((number for number in (known, *named) if type(number) is int and 0 <= number < size), None)


def _counted(architecture: Architecture, to: int) -> Embeddings:
    """The longer table; positions counted from padding, where there is a padding token to tell, but not by LED."""
    old = architecture.embeddings
    positions = dataclasses.replace(old.positions, length=to)
    if old.padding_id is not None and architecture.decoder is None:
        positions = dataclasses.replace(positions, offset=old.padding_id + 1, from_padding=True)
    return dataclasses.replace(old, positions=positions)


def _windowed(layer: Layer, window: int) -> Layer:
    pattern = Window.from_attention_window(window) | Global()
    attention = dataclasses.replace(layer.attention, pattern=pattern, global_projections=True)
    return dataclasses.replace(layer, attention=attention)


def _new_weights(model: Model, new: Architecture, seed: int, positions: NewPositions) -> dict[str, Tensor]:
    """The longer position table, repeated or drawn by `seed`, and token types where the old model had none."""
    old = model.architecture
    table = _positions(model.state_dict()[_POSITIONS], old, new)
    if positions == "random":
        _draw_positions(table, old, new, seed)
    weights = {_POSITIONS: table}
    if old.decoder is not None and new.decoder is not None:
        unread = old.decoder.embeddings.positions.offset - new.decoder.embeddings.positions.offset
        weights[_WRITTEN_POSITIONS] = model.state_dict()[_WRITTEN_POSITIONS][unread:].clone()
    if new.embeddings.token_types and not old.embeddings.token_types:
        weights[_TOKEN_TYPES] = table.new_zeros(new.embeddings.token_types, table.shape[1])
    return weights


def _local(name: str) -> str:
    """The local projection that a global one begins as a copy of."""
    for projection in ("query", "key", "value"):
        name = name.replace(f".{projection}_global.", f".{projection}.")
    return name


def _positions(table: Tensor, old: Architecture, new: Architecture) -> Tensor:
    """The usable rows repeated to the new length, after the rows that lie before position 0 (new ones are zero)."""
    before, after = old.embeddings.positions, new.embeddings.positions
    shape = (after.offset + after.length, table.shape[1])
    try:
        long = table.new_zeros(shape)
    except (RuntimeError, MemoryError):
        size = shape[0] * shape[1] * table.element_size() / 1e9
        raise InputError(
            f"to is {after.length}; its position table of {size:,.0f} GB does not fit into memory: take less"
        ) from None
    padding = min(before.offset, after.offset)
    long[after.offset - padding : after.offset] = table[before.offset - padding : before.offset]
    for start in range(0, after.length, before.length):
        rows = long[after.offset + start :][: before.length]
        rows.copy_(table[before.offset :][: len(rows)])
    return long


def _draw_positions(table: Tensor, old: Architecture, new: Architecture, seed: int) -> None:
    """Fresh rows behind those that the old model had."""
    rows = table[new.embeddings.positions.offset + old.embeddings.positions.length :]
    drawn = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)) * new.initializer_range
    rows.copy_(drawn)


def _lengths(old: int, window: int) -> tuple[int, int]:
    """As much of a text as every window covers, and as much as the old model reads."""
    return min(window // 2 + 1, old), old


def _changes(
    old: Architecture, model: Model, positions: NewPositions, wanted: str, obstacles: list[str]
) -> tuple[str, ...]:
    new = model.architecture
    before, after = old.embeddings.positions, new.embeddings.positions
    changes = _what_became(old, model, positions)
    changes.append("global query, key and value projections: copies of the local ones")
    if new.global_tokens == "first":
        changes.append(f"the first token of a text is global{_beside_first(new.head)}, unless a global_mask is given")
    if before.offset != after.offset:
        changes.append(f"rows of the table before position 0, for padding: {before.offset} became {after.offset}")
    if before.from_padding != after.from_padding:
        changes.append("positions count the tokens that are no padding, no longer all of them")
    if old.embeddings.token_types != new.embeddings.token_types:
        changes.append("two token types, rows of zeros: Longformer's format has such a table")
    if old.separator_id != new.separator_id:
        changes.append(f"the token between two texts, which ends a question: id {new.separator_id}")
    return (*changes, *changed_dropout(old, new), *why_own_format(model.family, _CALLED[wanted], obstacles))


def _what_became(old: Architecture, model: Model, positions: NewPositions) -> list[str]:
    """Of attention, and of positions."""
    new = model.architecture
    patterns = dict.fromkeys(str(layer.attention.pattern) for layer in new.layers)
    copies = new.length / old.length
    old_pattern = old.layers[0].attention.pattern
    changes = [f"attention of {plural(len(new.layers), 'layer')}: {old_pattern} became {', '.join(patterns)}"]
    if copies > 1:
        how = f"repeated {copies:.4g} times" if positions == "copied" else "then random ones"
        changes.append(f"positions: {old.embeddings.positions.length:,} learned rows, {how} to fill {new.length:,}")
    return changes


def _beside_first(head: Head | None) -> str:
    words = None if head is None else head.global_words
    return "" if words is None else f", and so is {words}"
