"""Checks of labels, and the loss that most heads have; -100 is ignored."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError, quote
from gossamer.kernels.ledger import ID, Ledger, own_frame
from gossamer.models.checks import require
from gossamer.models.heads.base import Labels
from gossamer.models.tensors import IDS, check_range, describe

__all__ = [
    "IGNORED",
    "MOST_LABELS",
    "USUAL_LABELS",
    "account_cross_entropy",
    "check_classes",
    "check_shape",
    "cross_entropy",
    "only",
    "require_labels",
]

IGNORED = -100
"""The label of what is not to be learnt."""
MOST_LABELS = 2**20
USUAL_LABELS = ("LABEL_0", "LABEL_1")
"""What `transformers` calls them where nothing says more."""


def require_labels(labels: object) -> None:
    """Refuse what is no tuple of names."""
    if not isinstance(labels, tuple) or not 1 <= len(labels) <= MOST_LABELS:
        raise InputError(f"labels is {quote(labels)}; it must be a tuple of 1 to {MOST_LABELS:,} names")
    for label in labels:
        require(isinstance(label, str), "labels", label, "names, every one a string")


def check_classes(name: str, labels: object, shape: tuple[int, ...], most: int) -> None:
    """Refuse what are no whole numbers from 0 to `most`, or -100, of this shape."""
    check_shape(name, labels, shape, IDS, "whole numbers (int64 or int32), -100 where nothing is to be learnt")
    tensor = cast(Tensor, labels)
    check_range(name, tensor[tensor != IGNORED], 0, most, "labels (other than -100, ignored)")


def check_shape(name: str, labels: object, shape: tuple[int, ...], kinds: tuple[torch.dtype, ...], what: str) -> None:
    """Refuse what is no tensor of this shape and one of these types."""
    if not isinstance(labels, Tensor) or labels.shape != torch.Size(shape) or labels.dtype not in kinds:
        raise InputError(f"{name} is {describe(labels)}; it must be shaped {list(shape)}: {what}")


def cross_entropy(logits: Tensor | None, labels: Labels) -> Float[Tensor, ""]:
    """Of scores [..., classes] and labels [...]."""
    assert logits is not None
    return F.cross_entropy(logits.flatten(0, -2), only(labels).flatten().long())


@own_frame
def account_cross_entropy(logits: Tensor, ledger: Ledger) -> Tensor:
    """What `cross_entropy` takes: the logarithms of all probabilities, under autocast in float32, and the labels."""
    scores = ledger.to_dtype(logits, torch.promote_types(logits.dtype, torch.float32))
    logarithms = ledger.operation(scores.shape, scores.dtype, (scores,), saves_output=True)
    labels = ledger.memory(ID * (scores.numel() // scores.shape[-1]))
    return ledger.operation((), scores.dtype, (logarithms,), saves=(logarithms, labels))


def only(labels: Labels) -> Tensor:
    """The labels where there is one tensor of them."""
    return labels[0] if isinstance(labels, tuple) else labels
