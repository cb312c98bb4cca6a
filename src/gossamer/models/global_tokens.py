"""Which tokens see everything where the caller names none: those of the head, and the first where the model has it."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.layers import count_positions
from gossamer.models.architecture import Architecture

__all__ = ["default_global_mask"]


def default_global_mask(
    architecture: Architecture,
    input_ids: Int[Tensor, "batch length"] | None,
    like: Tensor,
    key_mask: Bool[Tensor, "batch length"] | None = None,
    segments: Int[Tensor, "batch length"] | None = None,
) -> Bool[Tensor, "batch length"] | None:
    """What `transformers` takes for the head: the first token to classify, the question to answer, all but the context
    to choose, none for others; and, where `architecture.global_tokens` is "first", the first real token of each text.

    Texts packed into one row (`segments`) have a first token each, as they would have alone. `like`: [batch, length,
    ...]. None where no token is global. Source: Beltagy et al. 2020, section 3.1. Raises InputError where the question
    ends at a separator that the ids do not have.
    """
    if not architecture.takes_global_tokens:
        return None
    head = architecture.head
    # With a decoder transformers leaves them to the caller.
    knows = head is not None and architecture.decoder is None
    of_task = head.global_tokens(architecture, input_ids, like) if head is not None and knows else None
    if architecture.global_tokens == "none":
        return of_task
    real = torch.ones(like.shape[:2], dtype=torch.bool, device=like.device) if key_mask is None else key_mask
    first = count_positions(real, segments) == 1
    return first if of_task is None else first | of_task
