"""Which token of the second text comes next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.kernels import linear
from gossamer.kernels.accounts import account_linear
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import Linear
from gossamer.models.checks import require_flag, require_positive
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes, Tokens
from gossamer.models.heads.labels import check_classes, cross_entropy
from gossamer.models.heads.masked_lm import describe_table
from gossamer.models.output import Output

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["Seq2SeqLM", "Seq2SeqLMHead"]


@dataclass(frozen=True, kw_only=True)
class Seq2SeqLM(Head, kind="seq2seq-lm"):
    """Which token of the second text comes next: the decoder's states against a word table, its own or (`tied`) that
    which it reads with.

    `bias`: a number for every word, which is not learnt (BART's and Marian's `final_logits_bias`). `scale` multiplies
    the states before: T5's 1 / sqrt(hidden_size), where tied (Raffel et al. 2020; Shazeer and Stern 2018).
    """

    tied: bool = True
    bias: bool = False
    scale: float = 1.0
    kind: Literal["seq2seq-lm"] = "seq2seq-lm"

    reads_whole_texts = False
    scores_words = True
    outputs = 0

    def __post_init__(self) -> None:
        require_flag(self, "tied", "bias")
        require_positive(self, "scale")

    def build(self, architecture: Architecture) -> HeadModule:
        decoder = architecture.decoder
        settings = architecture.embeddings if decoder is None else decoder.embeddings
        return Seq2SeqLMHead(architecture.hidden_size, settings.vocabulary_size, self)

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        check_classes("labels", labels, (sizes.rows, sizes.length), sizes.vocabulary - 1)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        """Of logits [batch, length, vocabulary] and the tokens at those places; a model has it without all logits."""
        return cross_entropy(out.logits, labels)

    def describe(self) -> str:
        return describe_table(self.kind, self.tied)


class Seq2SeqLMHead(HeadModule):
    """Scores of the next token: scaled states against a word table, and a constant for each word."""

    def __init__(self, hidden_size: int, vocabulary: int, settings: Seq2SeqLM) -> None:
        super().__init__()
        self.scale = settings.scale
        self.decoder = None if settings.tied else Linear(hidden_size, vocabulary, bias=False)
        self.bias: Tensor | None
        self.register_buffer("bias", torch.zeros(vocabulary) if settings.bias else None)

    def table(self, word_table: Float[Tensor, "vocabulary size"]) -> Float[Tensor, "vocabulary hidden"]:
        """What states are compared with."""
        return word_table if self.decoder is None else self.decoder.whole_weight()

    def factors(
        self, hidden: Float[Tensor, "*rest hidden"], word_table: Float[Tensor, "vocabulary size"]
    ) -> tuple[Float[Tensor, "*rest columns"], Float[Tensor, "vocabulary columns"]]:
        """Two tensors whose product is the scores: the bias as one more column, where there is any."""
        states, table = self._scaled(hidden), self.table(word_table)
        if self.bias is None or not bool(self.bias.any()):
            return states, table
        ones = states.new_ones(*states.shape[:-1], 1)
        return torch.cat([states, ones], dim=-1), torch.cat([table, self.bias[:, None].to(table)], dim=1)

    def forward(self, hidden: Float[Tensor, "*rest hidden"], tokens: Tokens) -> Output:
        table = self.table(tokens.word_table)
        return Output(logits=linear(self._scaled(hidden), table, self.bias))

    @own_frame
    def account(self, hidden: Float[Tensor, "*rest hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        states = self._account_scaled(hidden, ledger)
        return account_linear(states, self.table(tokens.word_table), self.bias, ledger)

    def account_factors(
        self, hidden: Float[Tensor, "*rest hidden"], word_table: Float[Tensor, "vocabulary size"], ledger: Ledger
    ) -> tuple[Tensor, Tensor]:
        """What `factors` takes of a head whose bias says nothing, as fresh ones do."""
        return self._account_scaled(hidden, ledger), self.table(word_table)

    def _account_scaled(self, hidden: Tensor, ledger: Ledger) -> Tensor:
        return hidden if self.scale == 1 else ledger.operation(hidden.shape, hidden.dtype, (hidden,))

    def _scaled(self, hidden: Tensor) -> Tensor:
        return hidden if self.scale == 1 else hidden * self.scale
