"""Make a pretrained encoder read longer texts: windowed attention, copied positions (Longformer, sections 3 and 5)."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gossamer.errors import InputError, plural, quote, remark
from gossamer.families import family_for, get_family
from gossamer.models.architecture import Architecture, Embeddings, GlobalTokens, Layer, differences
from gossamer.models.checks import MOST_ROWS
from gossamer.models.encoder import Model
from gossamer.models.evaluation import evaluating
from gossamer.models.heads import (
    Head,
    MultipleChoice,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.model_argument import check_model
from gossamer.patterns import Full, Global, Window
from gossamer.recipes.receipt import Receipt, conditions, describe
from gossamer.text import speeches

__all__ = ["NewPositions", "check_windows", "lengthen"]

NewPositions = Literal["copied", "random"]

DEFAULT_WINDOW = 512
_PROJECTIONS = ("query", "key", "value")
_REFUSED_FROM = 1.75
"""Windows of so many times the old length read two copies of most positions as one (measured: docs/lengthen.md)."""


def lengthen(
    model: Model,
    to: int = 4096,
    window: int | Sequence[int] = DEFAULT_WINDOW,
    *,
    global_tokens: GlobalTokens = "first",
    positions: NewPositions = "copied",
    seed: int = 0,
    force: bool = False,
) -> tuple[Model, Receipt]:
    """A copy of an encoder that reads `to` tokens, each seeing `window` / 2 on either side and all global tokens.

    The learned positions are repeated until they fill the longer table, and the global projections start as copies of
    the local ones, so a text that a window covers (up to window / 2 + 1 tokens) gives the outputs of the original; the
    receipt says how closely it did. No weight is trained. The given model is left as it was. As in every Longformer,
    positions count the tokens that are no padding: padding on the left changes no state, where BERT counts it (labels
    of whole texts are read at the first position, as in `transformers`: pad on the right). Any head is kept, with its
    labels, and takes its own global tokens too. Where nothing else stands in the way of Longformer's format, what does
    not change the outputs is fitted to it: dropout rates, and a zero row for the token type that DistilBERT has not.
    Weights that layers share (ALBERT) stay shared, the copies too.

    Args:
        model: an encoder with full attention and learned absolute positions.
        to: tokens that the new model reads at once, at least as many as the model reads now.
        window: Longformer's `attention_window`, an even number of tokens; or one for each layer, in order.
        global_tokens: "first": without a `global_mask` each text's first real token, which takes a large part of the
            attention (docs/lengthen.md), is global beside those of the head; "none": those of the head alone.
        positions: "copied", or "random": positions beyond the old length are drawn, normal of the model's
            `initializer_range`, by `seed`. That is worse, and there to be compared (Longformer, table 5).
        seed: of the random positions.
        force: take a window of 1.75 times the old length or more, which holds most copied positions twice.

    Raises:
        InputError: `to` below the model's length or beyond what memory holds, a window that is odd, not positive or too
            wide, the wrong number of windows, weights that give no finite states, or no full attention to replace.

    Source: Beltagy et al. 2020 (arXiv 2004.05150), sections 3.1 and 5. There it is trained afterwards: `heal`.
    """
    _check_options(global_tokens, positions, seed, force)
    _check_attention(model)
    check_windows(window)
    windows = _windows(window, len(model.architecture.layers))
    longer = _lengthened(model.architecture, to, windows)
    notes = () if positions == "random" else _remark_on_copies(model.architecture.length, to, max(windows), force)
    longer = dataclasses.replace(longer, separator_id=_separator(model), global_tokens=global_tokens)
    architecture, obstacles = _fitted(longer)
    new = _build(model, architecture, seed if positions == "random" else None)
    measured, read = _measured(model, new, min(windows))
    new.receipt = Receipt(
        recipe="lengthen",
        source=model.source,
        settings=_settings(to, windows, global_tokens, positions, seed, force),
        before=describe(model),
        after=describe(new),
        changes=(*_changes(model.architecture, architecture, positions), *_format(new, obstacles)),
        measured=measured,
        conditions=conditions(new) | read,
        notes=notes,
    )
    return new, new.receipt


def _settings(
    to: int, windows: Sequence[int], global_tokens: GlobalTokens, positions: NewPositions, seed: int, force: bool
) -> dict[str, Any]:
    """What was asked for, as the receipt tells it: what nobody asks for is left out."""
    settings: dict[str, Any] = {"to": to, "window": windows[0] if len(set(windows)) == 1 else list(windows)}
    settings["global_tokens"] = global_tokens
    settings |= {"force": True} if force else {}
    return settings | ({"positions": positions, "seed": seed} if positions == "random" else {})


def _check_options(global_tokens: object, positions: object, seed: object, force: object) -> None:
    if global_tokens not in get_args(GlobalTokens):
        raise InputError(f"global_tokens is {quote(global_tokens)}; it must be 'first' or 'none'")
    if not isinstance(force, bool):
        raise InputError(f"force is {quote(force)}; it must be true or false")
    if positions not in get_args(NewPositions):
        raise InputError(f"positions is {quote(positions)}; it must be 'copied' or 'random'")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise InputError(f"seed is {quote(seed)}; it must be a whole number, 0 or more")


def _check_attention(model: Model) -> None:
    check_model(model)
    for i, layer in enumerate(model.architecture.layers):
        if layer.attention.pattern != Full():
            raise InputError(
                f"layer {i} attends by '{layer.attention.pattern}'; lengthen replaces full attention only: "
                "give it the original model and the length you want"
            )


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
    for i, one in enumerate(window if several else (window,)):
        name = f"window[{i}]" if several else "window"
        if type(one) is not int or not 2 <= one < MOST_ROWS:
            raise InputError(f"{name} is {quote(one)}; it must be an even whole number from 2 to {MOST_ROWS - 1}")
        if one % 2:
            raise InputError(
                f"{name} is {one}; it must be even, half of it to either side: take {max(one - 1, 2)} or {one + 1}"
            )


def _lengthened(old: Architecture, to: int, windows: tuple[int, ...]) -> Architecture:
    padding = old.embeddings.padding_id
    most = MOST_ROWS - (old.embeddings.positions.offset if padding is None else padding + 1)
    if type(to) is not int or not old.length <= to <= most:
        raise InputError(
            f"to is {quote(to)}; it must be a whole number of tokens from {old.length}, what the model reads now, "
            f"to {most}"
        )
    widest = max(2 * to, DEFAULT_WINDOW)
    if max(windows) > widest:
        # It would see no more, and transformers would pad every text to a multiple of it.
        raise InputError(f"window is {max(windows)}; it must be at most {widest}: a wider one sees no more")
    layers = tuple(_windowed(layer, window) for layer, window in zip(old.layers, windows, strict=True))
    return dataclasses.replace(old, embeddings=_counted(old.embeddings, to), layers=layers)


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
    return next((one for one in (known, *named) if type(one) is int and 0 <= one < size), None)


def _fitted(new: Architecture) -> tuple[Architecture, list[str]]:
    """The same model with what does not change its outputs as Longformer's format has it, if then it can hold it.

    Else the model as it is, and what stands in the way.
    """
    rate = new.embeddings.dropout
    layers = tuple(
        dataclasses.replace(
            one,
            attention=dataclasses.replace(one.attention, residual_dropout=rate),
            feed_forward=dataclasses.replace(one.feed_forward, residual_dropout=rate),
        )
        for one in new.layers
    )
    # A tokenizer gives the second of two texts type 1, whether or not the model had types to read.
    embeddings = dataclasses.replace(new.embeddings, token_types=new.embeddings.token_types or 2)
    fitted = dataclasses.replace(new, layers=layers, embeddings=embeddings, head=_with_dropout(new.head, rate))
    obstacles = get_family("longformer").obstacles(fitted)
    return (new if obstacles else fitted), obstacles


def _with_dropout(head: Head | None, rate: float) -> Head | None:
    match head:
        case SequenceClassification():
            return dataclasses.replace(head, dropout=rate, input_dropout=rate)
        case TokenClassification() | MultipleChoice():
            return dataclasses.replace(head, dropout=rate)
        case QuestionAnswering():
            return dataclasses.replace(head, dropout=0.0)
        case _:
            return head


def _counted(old: Embeddings, to: int) -> Embeddings:
    """The longer table; positions counted from padding, where there is a padding token to tell."""
    positions = dataclasses.replace(old.positions, length=to)
    if old.padding_id is not None:
        positions = dataclasses.replace(positions, offset=old.padding_id + 1, from_padding=True)
    return dataclasses.replace(old, positions=positions)


def _windowed(layer: Layer, window: int) -> Layer:
    pattern = Window.from_attention_window(window) | Global()
    attention = dataclasses.replace(layer.attention, pattern=pattern, global_projections=True)
    return dataclasses.replace(layer, attention=attention)


def _build(model: Model, architecture: Architecture, seed: int | None) -> Model:
    """The longer model with the old one's weights and tokenizer; new positions are drawn where there is a seed."""
    family = family_for(architecture, model.family).model_type
    tokenizer = None if model.tokenizer is None else model.tokenizer.with_max_length(architecture.length)
    with torch.device("meta"):
        new = Model(architecture, family=family, tokenizer=tokenizer)
    new.extra_config = copy.deepcopy(model.extra_config)
    new.generation_config = copy.deepcopy(model.generation_config)
    new.source, new.card, new.notes = model.source, dict(model.card), list(model.notes)
    new.load_state_dict(_weights(model, new, seed), assign=True)
    return new.train(model.training)


def _weights(old: Model, new: Model, seed: int | None) -> dict[str, Tensor]:
    """The old weights, copied; positions repeated or drawn by `seed`, global projections taken from the local ones."""
    have = old.state_dict()
    table = _positions(have["embeddings.position.weight"], old.architecture, new.architecture)
    if seed is not None:
        _draw_positions(table, old.architecture, new.architecture, seed)
    weights = {}
    for name in new.state_dict():
        source = name
        for projection in _PROJECTIONS:
            source = source.replace(f".{projection}_global.", f".{projection}.")
        if name == "embeddings.position.weight":
            weights[name] = table
        elif name == "embeddings.token_type.weight" and name not in have:
            weights[name] = table.new_zeros(new.architecture.embeddings.token_types, table.shape[1])
        else:
            weights[name] = have[name if name in have else source].detach().clone()
    return weights


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
    kept = min(before.offset, after.offset)
    long[after.offset - kept : after.offset] = table[before.offset - kept : before.offset]
    for start in range(0, after.length, before.length):
        rows = long[after.offset + start :][: before.length]
        rows.copy_(table[before.offset :][: len(rows)])
    return long


def _draw_positions(table: Tensor, old: Architecture, new: Architecture, seed: int) -> None:
    """Fresh rows behind those that the old model had."""
    rows = table[new.embeddings.positions.offset + old.length :]
    drawn = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)) * new.initializer_range
    rows.copy_(drawn)


def _changes(old: Architecture, new: Architecture, positions: NewPositions) -> tuple[str, ...]:
    windows = dict.fromkeys(str(layer.attention.pattern) for layer in new.layers)
    copies = new.length / old.length
    before, after = old.embeddings.positions, new.embeddings.positions
    old_pattern = old.layers[0].attention.pattern
    changes = [f"attention of {plural(len(new.layers), 'layer')}: {old_pattern} became {', '.join(windows)}"]
    if copies > 1:
        how = f"repeated {copies:.4g} times" if positions == "copied" else "then random ones"
        changes.append(f"positions: {old.length:,} learned rows, {how} to fill {new.length:,}")
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
    return (*changes, *_rates(old, new))


def _beside_first(head: Head | None) -> str:
    match head:
        case QuestionAnswering():
            return ", and so is the question"
        case MultipleChoice():
            return ", and so is all but the context"
        case _:
            return ""


def _rates(old: Architecture, new: Architecture) -> dict[str, None]:
    """The dropout rates that changed, those of all layers told once."""
    changed = [_of_any_layer(one) for one in differences(old, new) if one.partition(":")[0].endswith("dropout")]
    return dict.fromkeys(f"while training: {one.replace(' != ', ' became ')}" for one in changed)


def _of_any_layer(difference: str) -> str:
    return re.sub(r"^layers\.\d+\.", "layers.", difference)


def _format(new: Model, obstacles: list[str]) -> tuple[str, ...]:
    """Why the format is Gossamer's own, where Longformer's would not do."""
    if not obstacles:
        return ()
    listed = list(dict.fromkeys(map(_of_any_layer, obstacles)))
    more = f"; and {len(listed) - 2} more" if len(listed) > 2 else ""
    return (f"format {new.family}; Longformer's cannot hold this model: {'; '.join(listed[:2])}{more}",)


@torch.no_grad()
def _measured(old: Model, new: Model, window: int) -> tuple[dict[str, float], dict[str, str]]:
    """Relative differences of the states, and what was read.

    Twice: as much of it as every window covers, and as much as the old model reads. The first token is global where it
    will be; no other token is: the text has no question.
    """
    covered = min(window // 2 + 1, old.architecture.length)
    measured = {}
    for length in dict.fromkeys((covered, old.architecture.length)):
        ids, text = _probe(new, length)
        before, after = (_states(model, ids) for model in (old, new))
        if not bool(before.isfinite().all()):
            raise InputError("the model's states hold NaN or infinity; go back to sound weights before lengthening it")
        difference = (after - before).norm()
        measured[f"relative_difference_at_{length}_tokens"] = float(difference / before.norm()) if difference else 0.0
    return measured, {"text": text, "global_tokens": "the first" if _first_is_global(new.architecture) else "none"}


def _probe(model: Model, length: int) -> tuple[Tensor, str]:
    """Token ids [1, length] and their name: a shipped speech that is long enough, or random ids where there is none."""
    if model.tokenizer is not None and length > model.tokenizer.special_tokens_count():
        for speech in speeches():
            # No tokenizer makes more tokens than there are characters; those that would make too few are not tried.
            long_enough = len(speech.text) >= length
            ids = model.tokenizer(speech.text, max_length=length)["input_ids"] if long_enough else torch.empty(1, 0)
            if ids.shape[1] == length:
                return ids, f"{speech.speaker}'s address of {speech.year}"
    sizes = model.architecture.embeddings
    ids = torch.randint(0, sizes.vocabulary_size, (1, length), generator=torch.Generator().manual_seed(0))
    if sizes.padding_id is not None:
        ids = ids.masked_fill(ids == sizes.padding_id, (sizes.padding_id + 1) % sizes.vocabulary_size)
    return ids, "random token ids, seed 0"


def _states(model: Model, ids: Tensor) -> Tensor:
    ids, head = ids.to(next(model.parameters()).device), model.architecture.head
    if head is not None and head.takes_choices:
        ids = ids[:, None]
    is_global = torch.zeros_like(ids)
    is_global[..., 0] = _first_is_global(model.architecture)
    with evaluating(model):
        return model(ids, global_mask=is_global).last_hidden_state.double().cpu()


def _first_is_global(architecture: Architecture) -> bool:
    head = architecture.head
    return architecture.global_tokens == "first" or (head is not None and head.first_is_global)
