"""Which tokens of a text another model put there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import Linear
from gossamer.models.checks import require_choice
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes, Tokens
from gossamer.models.heads.labels import IGNORED, check_classes, only
from gossamer.models.output import Output
from gossamer.models.settings import Activation

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["ReplacedToken"]


@dataclass(frozen=True, kw_only=True)
class ReplacedToken(Head, kind="replaced-token"):
    """One score a token: above 0 where it was replaced, below where it is the text's own (ELECTRA's discriminator).

    Dense, activation, linear. Labels are 1 for replaced and 0 for original tokens. Source: Clark et al. 2020 (arXiv
    2003.10555), section 2.
    """

    activation: Activation = "gelu"
    kind: Literal["replaced-token"] = "replaced-token"

    reads_whole_texts = False
    outputs = 1

    def __post_init__(self) -> None:
        require_choice(self, Activation, "activation")

    def build(self, architecture: Architecture) -> HeadModule:
        return ReplacedTokenHead(architecture.output_size, self.activation)

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        check_classes("labels", labels, (sizes.rows, sizes.length), 1)

    def counted_labels(self, labels: Labels, key_mask: Bool[Tensor, "batch length"] | None) -> Labels:
        """Those of real tokens: `transformers`, too, leaves padding out of this loss, and of this one alone."""
        return labels if key_mask is None else only(labels).masked_fill(~key_mask, IGNORED)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        """The mean binary cross-entropy (section 2, L_Disc); scores without a label, even NaN, get no gradient."""
        assert out.logits is not None
        is_counted = only(labels) != IGNORED
        logits = out.logits.masked_fill(~is_counted, 0)
        weight = is_counted.to(logits.dtype)
        wanted = only(labels).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, wanted, weight) / weight.mean()

    def describe(self) -> str:
        return f"{self.kind}, 1 score a token"


class ReplacedTokenHead(HeadModule):
    """`output(activation(dense(x)))` of every token: [batch, length]."""

    def __init__(self, hidden_size: int, activation: str) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)
        self.output = Linear(hidden_size, 1)
        self.activation = activation

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        return Output(logits=self.output(self.dense(hidden, self.activation)).squeeze(-1))

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        return self.output.account(self.dense.account(hidden, ledger, self.activation), ledger)
