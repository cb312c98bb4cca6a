"""One score for each of several choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.errors import plural
from gossamer.models.bricks import Norm, require_norm
from gossamer.models.checks import require_choice, require_flag, require_rate
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes
from gossamer.models.heads.labels import check_classes, cross_entropy
from gossamer.models.heads.pooled_head import PooledHead
from gossamer.models.heads.separators import find_separators
from gossamer.models.heads.sequence_classification import PoolerActivation
from gossamer.models.norms import norm_module
from gossamer.models.output import Output

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["MultipleChoice"]

ChoiceReads = Literal["first", "first-real", "mean"]


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(Head, kind="multiple-choice"):
    """One score a choice, from the first token of each: dense, activation, dropout, linear.

    `reads` "first-real" takes the first token that is no padding, "mean" the mean of all that are none; a `norm`
    follows the activation, the dense map has a bias unless `dense_bias` is false (ModernBERT).
    """

    pooler_activation: PoolerActivation = "tanh"
    dropout: float = 0.1
    reads: ChoiceReads = "first"
    dense_bias: bool = True
    norm: Norm | None = None
    kind: Literal["multiple-choice"] = "multiple-choice"

    reads_whole_texts = True
    global_words = "all but the context"
    global_hint = (
        "; `transformers` takes that alone: for the same numbers give it a `global_attention_mask` of 1 for the first "
        "token and all behind the context's separator."
    )
    takes_choices = True
    outputs = 1

    def __post_init__(self) -> None:
        require_choice(self, PoolerActivation, "pooler_activation")
        require_rate(self, "dropout")
        require_choice(self, ChoiceReads, "reads")
        require_flag(self, "dense_bias")
        require_norm(self, "norm")

    def build(self, architecture: Architecture) -> HeadModule:
        return PooledHead(
            architecture.output_size,
            self.outputs,
            activation=self.pooler_activation,
            dropout=self.dropout,
            reads=self.reads,
            dense_bias=self.dense_bias,
            norm=None if self.norm is None else norm_module(self.norm, architecture.output_size),
        )

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        assert sizes.choices is not None
        check_classes("labels", labels, (sizes.rows // sizes.choices,), sizes.choices - 1)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        return cross_entropy(out.logits, labels)

    def describe(self) -> str:
        return f"{self.kind}, {plural(self.outputs, 'score')}"

    def global_tokens(
        self, architecture: Architecture, input_ids: Int[Tensor, "batch length"] | None, like: Tensor
    ) -> Bool[Tensor, "batch length"]:
        """All after the separator that ends the context, or after two of them in a row, as RoBERTa puts them."""
        separators = find_separators(self.kind, "context", architecture, input_ids)
        index = torch.arange(separators.shape[1], device=separators.device)
        first = separators.int().argmax(dim=1, keepdim=True)
        doubled = (index == first + 1) & separators
        return index > first + doubled.any(dim=1, keepdim=True)
