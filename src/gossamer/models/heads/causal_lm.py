"""Which token comes next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor

from gossamer.kernels import linear
from gossamer.kernels.accounts import account_linear
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import Linear
from gossamer.models.checks import require_flag
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes, Tokens
from gossamer.models.heads.labels import check_classes, cross_entropy
from gossamer.models.heads.masked_lm import describe_table
from gossamer.models.output import Output

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["CausalLM", "CausalLMHead"]


@dataclass(frozen=True, kw_only=True)
class CausalLM(Head, kind="causal-lm"):
    """Which token comes next: the states against the (tied) word table (Radford et al. 2019)."""

    tied: bool = True
    kind: Literal["causal-lm"] = "causal-lm"

    reads_whole_texts = False
    scores_words = True
    outputs = 0

    def __post_init__(self) -> None:
        require_flag(self, "tied")

    def build(self, architecture: Architecture) -> HeadModule:
        return CausalLMHead(architecture.output_size, architecture.embeddings.vocabulary_size, self.tied)

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        check_classes("labels", labels, (sizes.rows, sizes.length), sizes.vocabulary - 1)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        """Of logits [batch, length, vocabulary] and the tokens that follow them; a model has it without all logits."""
        return cross_entropy(out.logits, labels)

    def describe(self) -> str:
        return describe_table(self.kind, self.tied)


class CausalLMHead(HeadModule):
    """Scores of the next token: the states against the word table, or a table of the head's own."""

    def __init__(self, hidden_size: int, vocabulary: int, tied: bool) -> None:
        super().__init__()
        self.decoder = None if tied else Linear(hidden_size, vocabulary, bias=False)

    def table(self, word_table: Float[Tensor, "vocabulary size"]) -> Float[Tensor, "vocabulary hidden"]:
        """What states are compared with."""
        return word_table if self.decoder is None else self.decoder.whole_weight()

    def forward(self, hidden: Float[Tensor, "*rest hidden"], tokens: Tokens) -> Output:
        return Output(logits=linear(hidden, self.table(tokens.word_table)))

    @own_frame
    def account(self, hidden: Float[Tensor, "*rest hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        return account_linear(hidden, self.table(tokens.word_table), None, ledger)
