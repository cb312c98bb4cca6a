"""One score a label for every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor

from gossamer.kernels.ledger import Ledger
from gossamer.models.bricks import Norm
from gossamer.models.checks import require_rate
from gossamer.models.heads.base import Head, HeadModule, Labels, Sizes
from gossamer.models.heads.labels import (
    USUAL_LABELS,
    account_cross_entropy,
    check_classes,
    cross_entropy,
    require_labels,
)
from gossamer.models.heads.sequence_classification import describe_labels
from gossamer.models.heads.token_head import TokenHead, require_dense
from gossamer.models.norms import norm_module
from gossamer.models.output import Output
from gossamer.models.settings import Activation

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["TokenClassification"]


@dataclass(frozen=True, kw_only=True)
class TokenClassification(Head, kind="token-classification"):
    """One score a label for every token: dropout, linear.

    With a `dense_activation` a dense map, that activation and a `norm` come first (ModernBERT).
    """

    labels: tuple[str, ...]
    dropout: float = 0.1
    dense_activation: Activation | None = None
    dense_bias: bool = True
    norm: Norm | None = None
    kind: Literal["token-classification"] = "token-classification"

    reads_whole_texts = False

    def __post_init__(self) -> None:
        require_labels(self.labels)
        require_rate(self, "dropout")
        require_dense(self)

    @classmethod
    def drawn_on(cls, architecture: Architecture) -> TokenClassification:
        return cls(labels=USUAL_LABELS)

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def build(self, architecture: Architecture) -> HeadModule:
        return TokenHead(
            architecture.output_size, self.outputs, self.dropout, dense_activation=self.dense_activation,
            dense_bias=self.dense_bias,
            norm=None if self.norm is None else norm_module(self.norm, architecture.output_size),
        )  # fmt: skip

    def check_labels(self, labels: Labels, sizes: Sizes) -> None:
        check_classes("labels", labels, (sizes.rows, sizes.length), self.outputs - 1)

    def loss(self, out: Output, labels: Labels) -> Float[Tensor, ""]:
        return cross_entropy(out.logits, labels)

    def account_loss(self, logits: Tensor, ledger: Ledger) -> Tensor:
        return account_cross_entropy(logits, ledger)

    def describe(self) -> str:
        return describe_labels(self.kind, self.labels)
