"""One score a label for a whole text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import plural
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import Linear
from gossamer.models.bricks import Norm, require_norm
from gossamer.models.checks import require, require_choice, require_flag, require_rate
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes, Tokens
from gossamer.models.heads.labels import (
    USUAL_LABELS,
    account_cross_entropy,
    check_classes,
    check_shape,
    cross_entropy,
    only,
    require_labels,
)
from gossamer.models.heads.pooled_head import PooledHead
from gossamer.models.norms import norm_module
from gossamer.models.output import Output
from gossamer.models.settings import Activation
from gossamer.models.tensors import IDS, NUMBERS

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["PoolerActivation", "ProblemType", "Reads", "ScoreActivation", "SequenceClassification", "describe_labels"]

PoolerActivation = Literal["tanh", Activation]
ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]
ScoreActivation = Literal["identity", "sigmoid"]
Reads = Literal["first", "last", "mean", "end"]


@dataclass(frozen=True, kw_only=True)
class SequenceClassification(Head, kind="sequence-classification"):
    """One score a label for the whole text, from its first token: dropout, dense, activation, dropout, linear.

    The dense map gives as many numbers as the model's layers have, which is half of what it reads of two streams.
    With `reads="mean"` from the mean of its real tokens; a `norm` follows the activation, the dense map has a bias
    unless `dense_bias` is false (ModernBERT). With `reads="last"` from its last real token, one linear map without
    bias: the form of causal models; `padding_id` is then the token that is none, where the embeddings know of none.
    With `reads="end"` from the last token that is `end_id` (BART, T5).
    `problem_type` decides the loss: None leaves that to the number of labels and the type of the given ones.
    `score_activation` is what a cross-encoder of sentence-transformers makes of its scores when it answers: the numbers
    themselves, or the sigmoid of each; None: what is usual for the problem. The model's logits are without it.
    """

    labels: tuple[str, ...]
    problem_type: ProblemType | None = None
    score_activation: ScoreActivation | None = None
    pooler_activation: PoolerActivation = "tanh"
    input_dropout: float = 0.0
    dropout: float = 0.1
    reads: Reads = "first"
    padding_id: int | None = None
    end_id: int | None = None
    dense_bias: bool = True
    norm: Norm | None = None
    kind: Literal["sequence-classification"] = "sequence-classification"

    reads_whole_texts = True
    first_is_global = True

    def __post_init__(self) -> None:
        require_labels(self.labels)
        if self.problem_type is not None:
            require_choice(self, ProblemType, "problem_type")
        if self.problem_type == "single_label_classification":
            require(len(self.labels) > 1, "labels", self.labels, "two or more for single_label_classification")
        named = self.score_activation
        is_known = named is None or (isinstance(named, str) and named in get_args(ScoreActivation))
        allowed = "'identity', 'sigmoid' or None (in config.json, activation_fn torch.nn.Identity or torch.nn.Sigmoid)"
        require(is_known, "score_activation", named, allowed)
        require_choice(self, PoolerActivation, "pooler_activation")
        require_choice(self, Reads, "reads")
        require_rate(self, "input_dropout", "dropout")
        require_flag(self, "dense_bias")
        require_norm(self, "norm")
        padding = self.padding_id
        require(padding is None or type(padding) is int, "padding_id", padding, "a token id, or None")
        require(padding is None or self.reads == "last", "padding_id", padding, "None unless the last token is read")
        allowed = "a token id where the end is read, else None"
        require((type(self.end_id) is int) == (self.reads == "end"), "end_id", self.end_id, allowed)

    @classmethod
    def drawn_on(cls, architecture: Architecture) -> SequenceClassification:
        """Where no token sees those behind it, of the last one, which alone has seen all of the text."""
        is_causal = all(layer.attention.pattern.causal for layer in architecture.layers)
        return cls(labels=USUAL_LABELS, reads="last" if is_causal else "first")

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def build(self, architecture: Architecture) -> HeadModule:
        if self.reads == "last":
            padding = architecture.embeddings.padding_id if self.padding_id is None else self.padding_id
            return LastTokenHead(architecture.output_size, self.outputs, padding)
        return PooledHead(
            architecture.output_size,
            self.outputs,
            activation=self.pooler_activation,
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            reads=self.reads,
            end_id=self.end_id,
            dense_bias=self.dense_bias,
            norm=None if self.norm is None else norm_module(self.norm, architecture.hidden_size),
            inner=architecture.hidden_size,
        )

    def problem(self, labels: Labels) -> ProblemType:
        """What these labels make of it."""
        if self.problem_type is not None:
            return self.problem_type
        if not isinstance(labels, Tensor):
            return "single_label_classification"
        if self.outputs == 1:
            return "regression"
        return "single_label_classification" if labels.dtype in IDS else "multi_label_classification"

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        problem = self.problem(labels)
        if problem == "single_label_classification":
            check_classes("labels", labels, (sizes.rows,), self.outputs - 1)
            return
        what = "one number for each label" if problem == "multi_label_classification" else "the numbers to predict"
        flat = self.outputs == 1 and isinstance(labels, Tensor) and labels.dim() == 1
        check_shape("labels", labels, (sizes.rows,) if flat else (sizes.rows, self.outputs), NUMBERS, what)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        problem, logits, given = self.problem(labels), out.logits, only(labels)
        assert logits is not None
        if problem == "single_label_classification":
            return cross_entropy(logits, given)
        wanted = given.to(logits.dtype).view_as(logits)
        if problem == "regression":
            return F.mse_loss(logits, wanted)
        return F.binary_cross_entropy_with_logits(logits, wanted)

    def account_loss(self, logits: Tensor, ledger: Ledger) -> Tensor:
        """Of one label a text where nothing else is said; else of a number each, in float32 under autocast."""
        unsettled: ProblemType = "regression" if self.outputs == 1 else "single_label_classification"
        if (self.problem_type or unsettled) == "single_label_classification":
            return account_cross_entropy(logits, ledger)
        scores = ledger.to_dtype(logits, torch.promote_types(logits.dtype, torch.float32))
        return ledger.operation((), scores.dtype, (scores,), saves=(scores, ledger.memory(scores.nbytes)))

    def describe(self) -> str:
        return describe_labels(self.kind, self.labels)


class LastTokenHead(HeadModule):
    """Scores of the whole text from its last real token: `output(x)`.

    A token is padding where the mask says so, and where it has the padding's id: `transformers` knows the latter alone,
    so that end tokens are none where they fill rows up.
    """

    def __init__(self, hidden_size: int, outputs: int, padding_id: int | None) -> None:
        super().__init__()
        self.output = Linear(hidden_size, outputs, bias=False)
        self.padding_id = padding_id

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        real = tokens.key_mask
        if tokens.input_ids is not None and self.padding_id is not None:
            is_other = tokens.input_ids != self.padding_id
            real = is_other if real is None else real & is_other
        if real is None:
            return Output(logits=self.output(hidden[:, -1]))
        places = torch.arange(hidden.shape[1], device=hidden.device)
        last = (places * real).argmax(dim=1)
        return Output(logits=self.output(hidden[torch.arange(len(hidden), device=hidden.device), last]))

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        return self.output.account(ledger.operation((len(hidden), hidden.shape[-1]), hidden.dtype, (hidden,)), ledger)


def describe_labels(kind: str, labels: tuple[str, ...]) -> str:
    """Words for a head of labels."""
    shown = ", ".join(labels[:4]) + (", ..." if len(labels) > 4 else "")
    return f"{kind}, {plural(len(labels), 'label')}: {shown}"
