"""A masked LM, and of two texts whether the second follows the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.models.checks import require_choice, require_flag, require_positive, require_rate
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes, Tokens
from gossamer.models.heads.labels import IGNORED, account_cross_entropy, check_classes, cross_entropy, only
from gossamer.models.heads.masked_lm import MaskedLMHead, describe_table
from gossamer.models.heads.pooled_head import PooledHead
from gossamer.models.output import Output
from gossamer.models.settings import Activation

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["PreTraining"]


@dataclass(frozen=True, kw_only=True)
class PreTraining(Head, kind="pre-training"):
    """A masked LM, and of two texts whether the second follows the first: 0 it does, 1 it does not.

    Next sentence (Devlin et al. 2019, section 3.1: 1 is a text from elsewhere) or sentence order (Lan et al. 2020,
    section 3.1: 1 is the two exchanged). `pair_dropout` comes before the pair's last map.
    """

    activation: Activation = "gelu"
    norm_eps: float = 1e-12
    tied: bool = True
    pair_dropout: float = 0.0
    kind: Literal["pre-training"] = "pre-training"

    reads_whole_texts = False
    """Of several packed texts it reads the tokens alone."""
    scores_words = True
    outputs = 2

    def __post_init__(self) -> None:
        require_choice(self, Activation, "activation")
        require_positive(self, "norm_eps")
        require_flag(self, "tied")
        require_rate(self, "pair_dropout")

    def build(self, architecture: Architecture) -> HeadModule:
        return PreTrainingHead(architecture, self)

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        several = labels if isinstance(labels, tuple) else (labels,)
        if not 1 <= len(several) <= 2:
            raise InputError(f"labels is a tuple of {len(several)}; give (labels of tokens, labels of pairs)")
        check_classes("labels", several[0], (sizes.rows, sizes.length), sizes.vocabulary - 1)
        for pairs in several[1:]:
            check_classes("labels[1]", pairs, (sizes.rows,), 1)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        """That of the tokens, and where there are labels of pairs theirs besides: 0 where all of them are ignored."""
        tokens, pairs = labels if isinstance(labels, tuple) and len(labels) == 2 else (only(labels), None)
        loss = cross_entropy(out.logits, tokens)
        if pairs is None:
            return loss
        assert out.pair_logits is not None
        of_pairs = F.cross_entropy(out.pair_logits, pairs.long(), reduction="sum")
        return loss + of_pairs / (pairs != IGNORED).sum().clamp(min=1)

    def account_loss(self, logits: Tensor, ledger: Ledger) -> Tensor:
        """Of the tokens alone, which training on plain text has."""
        return account_cross_entropy(logits, ledger)

    def describe(self) -> str:
        return describe_table(self.kind, self.tied)


class PreTrainingHead(MaskedLMHead):
    """A masked LM with a second head on the first token, for the pair of texts."""

    def __init__(self, architecture: Architecture, settings: PreTraining) -> None:
        super().__init__(architecture, settings.activation, settings.norm_eps, settings.tied)
        self.pair = PooledHead(architecture.output_size, 2, activation="tanh", dropout=settings.pair_dropout)

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        logits = super().forward(hidden, tokens).logits
        if tokens.segments is not None:
            return Output(logits=logits)
        pair = self.pair(hidden, tokens)
        return Output(logits=logits, pair_logits=pair.logits, pooled=pair.pooled)

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        logits = super().account(hidden, tokens, ledger)
        self.pair.account(hidden, tokens, ledger)
        return logits
