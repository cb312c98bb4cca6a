"""Which tokens see everything where the caller names none: those that `transformers` takes for each task."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models.architecture import Architecture
from gossamer.models.head_settings import MultipleChoice, NextSentence, QuestionAnswering, SequenceClassification
from gossamer.patterns import Global, Pattern, PerHead, Union

__all__ = ["default_global_mask", "takes_global_tokens"]


def takes_global_tokens(architecture: Architecture) -> bool:
    """Whether flagged tokens change anything."""
    return any(one.attention.global_projections or _has_global(one.attention.pattern) for one in architecture.layers)


def default_global_mask(
    architecture: Architecture, input_ids: Int[Tensor, "batch length"] | None, like: Tensor
) -> Bool[Tensor, "batch length"] | None:
    """The first token to classify, the question to answer, all but the context to choose; None for other heads.

    `like`: [batch, length, ...]. Source: Beltagy et al. 2020, section 3.1. Raises InputError where the question ends
    at a separator that the ids do not have.
    """
    head = architecture.head
    if head is None or not takes_global_tokens(architecture):
        return None
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


def _has_global(pattern: Pattern) -> bool:
    if isinstance(pattern, Union):
        return any(map(_has_global, pattern.parts))
    if isinstance(pattern, PerHead):
        return any(_has_global(one) for one, _ in pattern.groups)
    return isinstance(pattern, Global)


def _question(separators: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
    return separators.cumsum(dim=1) == 0


def _choice(separators: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch length"]:
    """All after the separator that ends the context, or after two of them in a row, as RoBERTa puts them."""
    index = torch.arange(separators.shape[1], device=separators.device)
    first = separators.int().argmax(dim=1, keepdim=True)
    doubled = (index == first + 1) & separators
    return index > first + doubled.any(dim=1, keepdim=True)
