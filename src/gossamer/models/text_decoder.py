"""The stack that writes a second text while it attends to the states of the first."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.layers import OtherStates, TokenInfo
from gossamer.models.building import build_embeddings
from gossamer.models.cache import StackCache
from gossamer.models.decoder_stack import Decoder
from gossamer.models.stack import Stack, run_layers
from gossamer.models.tensors import IDS, check_range, describe

__all__ = ["TextDecoder", "check_second_text", "shift_right"]

IGNORED = -100


class TextDecoder(Stack):
    """A `Decoder` with weights: embeddings, layers, and the norm of the last states.

    Without a word table of its own it is handed the rows of the one that it shares. What it is run with is the model's
    description of it, whose rates of dropout and recomputation may have changed since it was built.
    """

    def __init__(self, settings: Decoder, hidden_size: int) -> None:
        super().__init__(hidden_size, settings.layers, length=settings.length, final_norm=settings.final_norm)
        self.embeddings = build_embeddings(settings.embeddings, hidden_size, own_words=not settings.shared_words)

    def read(
        self,
        settings: Decoder,
        words: Float[Tensor, "batch length size"],
        key_mask: Bool[Tensor, "batch length"] | None,
        other: OtherStates | None,
        cache: StackCache | None,
        keep_all: bool,
    ) -> list[Float[Tensor, "batch length hidden"]]:
        """The states of the second text's tokens, whose words' rows are given, as `Stack.forward` gives them.

        Positions are places: padding before a text counts, with a cache too, as in `transformers`.
        """
        shape = words.shape[:2]
        if cache is None:
            counted = torch.arange(shape[1], device=words.device)[None]
        else:
            counted = cache.position_ids(shape, key_mask, by_place=True).to(words.device)
        offset = settings.embeddings.positions.offset
        states = self.embeddings(None, None, counted + offset, words)
        tokens = TokenInfo(key_mask=key_mask, positions=counted)
        every = run_layers(self, settings.layers, states, tokens, other=other, cache=cache, keep_all=keep_all)
        every[-1] = F.dropout(every[-1], settings.final_dropout, self.training)
        return every


def check_second_text(settings: Decoder, ids: Tensor, mask: Tensor | None, batch: int) -> None:
    """Raise InputError for ids or a mask that this decoder cannot read beside so many first texts."""
    if not isinstance(ids, Tensor) or ids.dtype not in IDS or ids.dim() != 2 or not ids.shape[1]:
        raise InputError(
            f"decoder_input_ids is {describe(ids)}; it must be whole numbers (int64 or int32) shaped [batch, length]"
        )
    if len(ids) != batch:
        raise InputError(f"decoder_input_ids has {len(ids)} rows and input_ids {batch}; give one for each text")
    check_range("decoder_input_ids", ids, 0, settings.embeddings.vocabulary_size - 1, "the vocabulary's ids")
    if ids.shape[1] > settings.length:
        raise InputError(
            f"decoder_input_ids are {ids.shape[1]} tokens long, the decoder reads {settings.length}: shorten them"
        )
    if mask is not None and (not isinstance(mask, Tensor) or mask.shape != ids.shape):
        raise InputError(f"decoder_attention_mask is {describe(mask)}; it must be shaped {list(ids.shape)}")


def shift_right(labels: Int[Tensor, "batch length"], settings: Decoder) -> Int[Tensor, "batch length"]:
    """What a decoder reads to tell these labels: the start, then all but the last; padding for what is ignored."""
    padding = settings.embeddings.padding_id
    shifted = F.pad(labels[:, :-1], (1, 0), value=settings.start_id)
    return shifted.masked_fill(shifted == IGNORED, settings.start_id if padding is None else padding)
