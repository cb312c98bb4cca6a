"""Which tokens see everything where the caller names none: those of the head, and the first where the model has it."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.errors import InputError
from gossamer.layers import count_positions
from gossamer.models.architecture import Architecture
from gossamer.models.head_settings import MultipleChoice, NextSentence, QuestionAnswering, SequenceClassification

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
    of_task = _of_task(architecture, input_ids, like)
    if architecture.global_tokens == "none":
        return of_task
    real = torch.ones(like.shape[:2], dtype=torch.bool, device=like.device) if key_mask is None else key_mask
    first = count_positions(real, segments) == 1
    return first if of_task is None else first | of_task


def _of_task(
    architecture: Architecture, input_ids: Int[Tensor, "batch length"] | None, like: Tensor
) -> Bool[Tensor, "batch length"] | None:
    head = architecture.head
    if isinstance(head, SequenceClassification | NextSentence):
        first = torch.zeros(like.shape[:2], dtype=torch.bool, device=like.device)
        first[:, 0] = True
        return first
    if not isinstance(head, QuestionAnswering | MultipleChoice):
        return None
    if input_ids is None or architecture.separator_id is None:
        why = "there are no input_ids" if input_ids is None else "the model knows no separator"
        raise InputError(f"global tokens of {head.kind} end at a separator, and {why}: give a global_mask")
    separators = input_ids == architecture.separator_id
    if not torch.compiler.is_compiling() and not bool(separators.any(dim=1).all()):
        row = int((~separators.any(dim=1)).nonzero()[0])
        raise InputError(
            f"row {row} has no separator (id {architecture.separator_id}) that ends the "
            f"{'question' if isinstance(head, QuestionAnswering) else 'context'}: give two texts, or a global_mask"
        )
    return _question(separators) if isinstance(head, QuestionAnswering) else _choice(separators)


def _question(separators: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
    return separators.cumsum(dim=1) == 0


def _choice(separators: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
    """All after the separator that ends the context, or after two of them in a row, as RoBERTa puts them."""
    index = torch.arange(separators.shape[1], device=separators.device)
    first = separators.int().argmax(dim=1, keepdim=True)
    doubled = (index == first + 1) & separators
    return index > first + doubled.any(dim=1, keepdim=True)
