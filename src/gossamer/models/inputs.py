"""Checks of what is handed to a model: one line that quotes the value and says what to do. Skipped while compiling."""

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models.architecture import Architecture
from gossamer.models.tensors import IDS, check_range, describe
from gossamer.patterns import Full

__all__ = ["advise_longer", "as_mask", "check_inputs", "check_length", "check_positions", "flatten_choices"]

_INTEGERS = (*IDS, torch.int16, torch.uint8, torch.int8)


def check_inputs(
    architecture: Architecture, inputs_embeds: Tensor | None, rows: dict[str, Tensor | None]
) -> torch.Size:
    """Refuse inputs whose shapes, types or ids this model cannot read. `rows` are all [batch, length] tensors.

    Returns [batch, length].
    """
    input_ids = rows["input_ids"]
    if (input_ids is None) == (inputs_embeds is None):
        raise InputError("give either input_ids or inputs_embeds, one of the two")
    shape = _check_main(architecture, input_ids, inputs_embeds)
    for name, tensor in rows.items():
        if tensor is not None and name != "input_ids":
            _check_row(name, tensor, shape)
    size = architecture.embeddings
    if input_ids is not None:
        check_range("input_ids", input_ids, 0, size.vocabulary_size - 1, "the vocabulary's ids")
    types = rows.get("token_type_ids")
    if types is not None and size.token_types:
        check_range("token_type_ids", types, 0, size.token_types - 1, "the token types")
    return shape


def flatten_choices(
    rows: dict[str, Tensor | None], embeds: Tensor | None
) -> tuple[dict[str, Tensor | None], Tensor | None, int]:
    """Rows [batch, choices, length] one below the other, and the number of choices.

    Raises InputError for tensors of other shapes, and for rows that do not agree on the number.
    """
    given = {name: one for name, one in rows.items() if one is not None}
    counts: list[int] = []  # no set: sizes of an exported graph have no hash
    for name, one in (given | ({} if embeds is None else {"inputs_embeds": embeds})).items():
        wanted = 4 if name == "inputs_embeds" else 3
        if not isinstance(one, Tensor) or one.dim() != wanted or not one.shape[1]:
            raise InputError(f"{name} is {describe(one)}; a multiple-choice head reads [batch, choices, length]")
        if one.shape[1] not in counts:
            counts.append(one.shape[1])
    if len(counts) != 1:
        raise InputError(f"the inputs have {' and '.join(map(str, sorted(counts))) or 'no'} choices; give one number")
    flat = {name: None if one is None else one.flatten(0, 1) for name, one in rows.items()}
    return flat, None if embeds is None else embeds.flatten(0, 1), counts[0]


def advise_longer(architecture: Architecture, length: int, purpose: str = "") -> str:
    """What makes a model read so many tokens, and what for; "" where nothing does: causal layers with a table, axes.

    Without a table of positions the length is a number alone; a model that was lengthened cannot be once more.
    """
    positions = architecture.embeddings.positions
    if positions.reach is None:
        return f"raise its length (max_position_embeddings in config.json) to {length}{purpose}"
    patterns = [layer.attention.pattern for layer in architecture.layers]
    if positions.scheme != "learned" or architecture.is_decoder or any(one.causal for one in patterns):
        return ""
    is_original = all(one == Full() for one in patterns)
    call = f"gossamer.lengthen(model, to={1 << (length - 1).bit_length()})"
    return f"lengthen {'the model' if is_original else 'the original model'}{purpose}: {call}"


def check_length(length: int, architecture: Architecture) -> None:
    """Refuse a text longer than the model reads, and say how to go on."""
    most = architecture.length
    if length > most:
        remedies = ["shorten it (truncation=True)", advise_longer(architecture, length)]
        raise InputError(
            f"this text is {length} tokens long, the model reads {most}: {' or '.join(filter(None, remedies))}"
        )


def check_positions(position_ids: Tensor, architecture: Architecture) -> None:
    """Refuse rows that the position table does not have, or without one, positions that the model does not read."""
    positions = architecture.embeddings.positions
    reach, what = positions.reach, "the position table's rows"
    reach, what = (architecture.length, "the model's positions") if reach is None else (reach, what)
    check_range("position_ids", position_ids, 0, positions.offset + reach - 1, what)


def as_mask(name: str, mask: Tensor | None) -> Tensor | None:
    """A mask of whole numbers or booleans as booleans; InputError for values other than 0 and 1."""
    if mask is None or mask.dtype == torch.bool:
        return mask
    if not torch.compiler.is_compiling():
        check_range(name, mask, 0, 1, "mask values")
    return mask.bool()


def _check_main(architecture: Architecture, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> torch.Size:
    if input_ids is not None:
        if not isinstance(input_ids, Tensor) or input_ids.dtype not in IDS or input_ids.dim() != 2:
            allowed = "whole numbers (int64 or int32) shaped [batch, length]"
            raise InputError(f"input_ids is {describe(input_ids)}; it must be {allowed}")
        shape = input_ids.shape
    else:
        size = architecture.embeddings.size
        fits = isinstance(inputs_embeds, Tensor) and inputs_embeds.is_floating_point() and inputs_embeds.dim() == 3
        if not fits or inputs_embeds.shape[-1] != size:  # type: ignore[union-attr]
            allowed = f"floating point shaped [batch, length, {size}]"
            raise InputError(f"inputs_embeds is {describe(inputs_embeds)}; it must be {allowed}")
        shape = inputs_embeds.shape[:2]  # type: ignore[union-attr]
    if shape.numel() == 0:
        raise InputError(f"the batch is empty: shape {list(shape)}; give at least one text of at least one token")
    return shape


def _check_row(name: str, tensor: Tensor, shape: torch.Size) -> None:
    is_row = isinstance(tensor, Tensor) and tensor.shape == shape
    if name == "position_ids" and isinstance(tensor, Tensor):
        is_row = is_row or tensor.shape == (1, shape[1])
    kinds = (*_INTEGERS, torch.bool) if name.endswith("mask") else IDS
    if not is_row or tensor.dtype not in kinds:
        what = (
            "1 or True for such tokens, 0 or False for others"
            if name.endswith("mask")
            else "whole numbers (int64 or int32)"
        )
        raise InputError(f"{name} is {describe(tensor)}; it must be shaped {list(shape)}: {what}")
