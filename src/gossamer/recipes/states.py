"""A model before and after a recipe: the states of both for one text, and what their architectures differ in."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models.architecture import Architecture, differences, of_any_layer
from gossamer.models.evaluation import evaluating
from gossamer.models.model import Model
from gossamer.models.text_decoder import shift_right
from gossamer.text import speeches

__all__ = ["changed_dropout", "compare_states", "probe", "read_states", "relative_difference"]


@torch.no_grad()
def compare_states(
    old: Model, new: Model, lengths: Iterable[int], verb: str
) -> tuple[dict[str, float], dict[str, str]]:
    """The relative difference of the models' states over a text of each length, and what was read: for a receipt.

    `verb` says what the recipe does ("lengthening"). The first token is global where it will be; no other token is: the
    text has no question. Raises InputError for an old model whose states are not finite.
    """
    measured, text = {}, ""
    for length in dict.fromkeys(lengths):
        ids, text = probe(new, length)
        before, after = (read_states(model, ids) for model in (old, new))
        if not bool(before.isfinite().all()):
            raise InputError(f"the model's states hold NaN or infinity; go back to sound weights before {verb} it")
        measured[f"relative_difference_at_{length}_tokens"] = relative_difference(before, after)
    return measured, {"text": text, "global_tokens": "the first" if _first_is_global(new.architecture) else "none"}


def probe(model: Model, length: int) -> tuple[Int[Tensor, "1 length"], str]:
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


def read_states(model: Model, ids: Int[Tensor, "1 length"]) -> Float[Tensor, "1 length hidden"]:
    """The last hidden states of a text in evaluation mode, in float64 on the CPU; the model's mode is given back."""
    ids, head = ids.to(next(model.parameters()).device), model.architecture.head
    if head is not None and head.takes_choices:
        ids = ids[:, None]
    is_global = torch.zeros_like(ids)
    is_global[..., 0] = _first_is_global(model.architecture)
    decoder = model.architecture.decoder
    # The same text, written once more, is as good as any.
    written = None if decoder is None else shift_right(ids, decoder)[:, : decoder.length]
    with evaluating(model):
        out = model(ids, global_mask=is_global, decoder_input_ids=written)
    return out.last_hidden_state.double().cpu()


def relative_difference(before: Tensor, after: Tensor) -> float:
    """||after - before|| / ||before||; 0 where they are equal, zeros too."""
    difference = (after - before).norm()
    return float(difference / before.norm()) if difference else 0.0


def changed_dropout(old: Architecture, new: Architecture) -> tuple[str, ...]:
    """The dropout rates that changed, a line each, those of all layers told once."""
    changed = [
        of_any_layer(difference)
        for difference in differences(old, new)
        if difference.partition(":")[0].endswith("dropout")
    ]
    return tuple(dict.fromkeys(f"while training: {difference.replace(' != ', ' became ')}" for difference in changed))


def _first_is_global(architecture: Architecture) -> bool:
    head = architecture.head
    return architecture.global_tokens == "first" or (head is not None and head.first_is_global)
