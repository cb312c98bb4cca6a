"""Which token stands under each mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.kernels import linear
from gossamer.kernels.accounts import account_linear
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import LayerNorm, Linear
from gossamer.models.checks import require, require_choice, require_flag, require_positive
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes, Tokens
from gossamer.models.heads.labels import account_cross_entropy, check_classes, cross_entropy
from gossamer.models.output import Output
from gossamer.models.settings import Activation

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["MaskedLM", "MaskedLMHead", "describe_table"]


@dataclass(frozen=True, kw_only=True)
class MaskedLM(Head, kind="masked-lm"):
    """Which token stands under each mask: dense, activation, norm, then the (tied) word table and a bias.

    Without a `transform` the states meet the table as they are (Reformer), and settings of its three parts say nothing.
    `dense_bias`, `norm_bias` and `bias` say which of the three have one (ModernBERT's first two have none).
    """

    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    tied: bool = True
    dense_bias: bool = True
    norm_bias: bool = True
    bias: bool = True
    transform: bool = True
    kind: Literal["masked-lm"] = "masked-lm"

    reads_whole_texts = False
    scores_words = True
    outputs = 0

    def __post_init__(self) -> None:
        require_choice(self, Activation, "activation")
        require_positive(self, "norm_eps")
        require_flag(self, "tied", "dense_bias", "norm_bias", "bias", "transform")

    def build(self, architecture: Architecture) -> HeadModule:
        return MaskedLMHead(
            architecture, self.activation, self.norm_eps, self.tied,
            dense_bias=self.dense_bias, norm_bias=self.norm_bias, bias=self.bias, transform=self.transform,
        )  # fmt: skip

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        check_classes("labels", labels, (sizes.rows, sizes.length), sizes.vocabulary - 1)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        return cross_entropy(out.logits, labels)

    def account_loss(self, logits: Tensor, ledger: Ledger) -> Tensor:
        return account_cross_entropy(logits, ledger)

    def describe(self) -> str:
        return describe_table(self.kind, self.tied)


class MaskedLMHead(HeadModule):
    """`norm(activation(dense(x)))` against the word table, plus a bias (Devlin et al. 2019; RoBERTa's is the same).

    `decoder` exists only where the head is not tied to the word table; without a `transform` it reads the states.
    """

    def __init__(
        self,
        architecture: Architecture,
        activation: str,
        norm_eps: float,
        tied: bool,
        *,
        dense_bias: bool = True,
        norm_bias: bool = True,
        bias: bool = True,
        transform: bool = True,
    ) -> None:
        super().__init__()
        states, vocabulary = architecture.output_size, architecture.embeddings.vocabulary_size
        size = architecture.embeddings.size if transform or tied else states
        allowed = f"false where states, {states} wide, are compared with a word table of {size} columns"
        require(transform or not tied or size == states, "head.tied", tied, allowed)
        self.dense = Linear(states, size, bias=dense_bias) if transform else None
        self.norm = LayerNorm(size, eps=norm_eps, bias=norm_bias) if transform else None
        self.decoder = None if tied else Linear(size, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary)) if bias else None
        self.activation = activation

    def forward(self, hidden: Float[Tensor, "*rest hidden"], tokens: Tokens) -> Output:
        if self.dense is not None and self.norm is not None:
            hidden = self.norm(self.dense(hidden, self.activation))
        return Output(logits=linear(hidden, self._table(tokens), self.bias))

    @own_frame
    def account(self, hidden: Float[Tensor, "*rest hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        if self.dense is not None and self.norm is not None:
            hidden = self.norm.account(self.dense.account(hidden, ledger, self.activation), ledger)
        return account_linear(hidden, self._table(tokens), self.bias, ledger)

    def _table(self, tokens: Tokens) -> Float[Tensor, "vocabulary size"]:
        return tokens.word_table if self.decoder is None else self.decoder.whole_weight()


def describe_table(kind: str, tied: bool) -> str:
    """Words for a head that scores the vocabulary."""
    return f"{kind}, {'tied to the word table' if tied else 'a table of its own'}"
