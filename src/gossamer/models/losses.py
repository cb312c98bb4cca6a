"""Labels: what each head takes, checked, and the loss they give, as in `transformers`; -100 is ignored."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.models.architecture import Architecture
from gossamer.models.head_settings import (
    CausalLM,
    Head,
    MaskedLM,
    MultipleChoice,
    NextSentence,
    PreTraining,
    QuestionAnswering,
    SequenceClassification,
    TokenClassification,
)
from gossamer.models.inputs import check_range, describe
from gossamer.models.next_token import IGNORED, next_tokens
from gossamer.models.output import Output

__all__ = ["Labels", "check_labels", "count_labels", "labels_loss"]

Labels = Tensor | tuple[Tensor, Tensor]
"""One tensor; for the pre-training head, (labels of tokens, labels of pairs) too."""

_IDS = (torch.int64, torch.int32)
_NUMBERS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.int8, torch.uint8, *_IDS)


def check_labels(architecture: Architecture, labels: Labels, shape: torch.Size, choices: int | None = None) -> None:
    """Refuse labels that this head has no loss for. `shape`: [batch, length], of all `choices` below each other."""
    head, (rows, length) = architecture.head, shape
    tokens = torch.Size((rows, length))
    most = architecture.embeddings.vocabulary_size - 1
    match head:
        case PreTraining():
            several = labels if isinstance(labels, tuple) else (labels,)
            if not 1 <= len(several) <= 2:
                raise InputError(f"labels is a tuple of {len(several)}; give (labels of tokens, labels of pairs)")
            _check_classes("labels", several[0], tokens, most)
            for pairs in several[1:]:
                _check_classes("labels[1]", pairs, torch.Size((rows,)), 1)
        case MaskedLM() | CausalLM():
            _check_classes("labels", labels, tokens, most)
        case NextSentence():
            _check_classes("labels", labels, torch.Size((rows,)), 1)
        case TokenClassification():
            _check_classes("labels", labels, tokens, len(head.labels) - 1)
        case SequenceClassification():
            _check_sequence(head, labels, rows)
        case QuestionAnswering():
            _check_shape("labels", labels, torch.Size((rows, 2)), _IDS, "the first and last token of the answer")
        case MultipleChoice():
            count = cast(int, choices)
            _check_classes("labels", labels, torch.Size((rows // count,)), count - 1)
        case _:
            kind = "no head" if head is None else f"the head {head.kind!r}"
            raise InputError(f"labels were given but this model has {kind}: load it with a head that has a loss")


def labels_loss(head: Head, out: Output, labels: Labels) -> Float[Tensor, ""]:
    """The mean loss over all labels that count; NaN where there are none, as in `transformers`."""
    logits = cast(Tensor, out.logits)
    match head:
        case PreTraining():
            tokens, pairs = labels if isinstance(labels, tuple) and len(labels) == 2 else (_only(labels), None)
            loss = _cross_entropy(logits, tokens)
            return loss if pairs is None else loss + _cross_entropy(cast(Tensor, out.pair_logits), pairs)
        case SequenceClassification():
            return _sequence_loss(head, logits, _only(labels))
        case QuestionAnswering():
            return _answer_loss(logits, _only(labels))
        case _:
            return _cross_entropy(logits, _only(labels))


def count_labels(architecture: Architecture, labels: Tensor, segments: Tensor | None = None) -> int:
    """How many labels of tokens a loss is the mean of: for a decoder, those that come next in their document."""
    counted = next_tokens(labels, segments, architecture.prefix) if architecture.is_decoder else labels
    return int((counted != IGNORED).sum())


def _only(labels: Labels) -> Tensor:
    return labels[0] if isinstance(labels, tuple) else labels


def _cross_entropy(logits: Tensor, labels: Tensor) -> Float[Tensor, ""]:
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten().long())


def _problem(head: SequenceClassification, labels: Tensor) -> str:
    if head.problem_type is not None:
        return head.problem_type
    if len(head.labels) == 1:
        return "regression"
    return "single_label_classification" if labels.dtype in _IDS else "multi_label_classification"


def _sequence_loss(head: SequenceClassification, logits: Tensor, labels: Tensor) -> Float[Tensor, ""]:
    problem = _problem(head, labels)
    if problem == "single_label_classification":
        return _cross_entropy(logits, labels)
    wanted = labels.to(logits.dtype).view_as(logits)
    if problem == "regression":
        return F.mse_loss(logits, wanted)
    return F.binary_cross_entropy_with_logits(logits, wanted)


def _answer_loss(logits: Float[Tensor, "batch length 2"], labels: Tensor) -> Float[Tensor, ""]:
    """The mean of both ends' losses; a place behind the text does not count."""
    length = logits.shape[1]
    places = labels.long().clamp(0, length)
    start, end = (F.cross_entropy(logits[..., i], places[:, i], ignore_index=length) for i in (0, 1))
    return (start + end) / 2


def _check_sequence(head: SequenceClassification, labels: Labels, rows: int) -> None:
    count = len(head.labels)
    problem = _problem(head, labels) if isinstance(labels, Tensor) else "single_label_classification"
    if problem == "single_label_classification":
        _check_classes("labels", labels, torch.Size((rows,)), count - 1)
        return
    what = "one number for each label" if problem == "multi_label_classification" else "the numbers to predict"
    flat = count == 1 and isinstance(labels, Tensor) and labels.dim() == 1
    _check_shape("labels", labels, torch.Size((rows,) if flat else (rows, count)), _NUMBERS, what)


def _check_classes(name: str, labels: object, shape: torch.Size, most: int) -> None:
    _check_shape(name, labels, shape, _IDS, "whole numbers (int64 or int32), -100 where nothing is to be learnt")
    tensor = cast(Tensor, labels)
    check_range(name, tensor[tensor != -100], 0, most, "labels (other than -100, ignored)")


def _check_shape(name: str, labels: object, shape: torch.Size, kinds: tuple[torch.dtype, ...], what: str) -> None:
    if not isinstance(labels, Tensor) or labels.shape != shape or labels.dtype not in kinds:
        raise InputError(f"{name} is {describe(labels)}; it must be shaped {list(shape)}: {what}")
