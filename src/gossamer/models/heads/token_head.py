"""Scores of every token."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import Linear
from gossamer.models.heads.base import HeadModule, Tokens
from gossamer.models.output import Output

__all__ = ["TokenHead"]


class TokenHead(HeadModule):
    """Scores of every token: dropout, linear."""

    def __init__(self, hidden_size: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.output = Linear(hidden_size, outputs)
        self.dropout = dropout

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        return Output(logits=self.output(F.dropout(hidden, self.dropout, self.training)))

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        return self.output.account(ledger.dropout(hidden, self.dropout), ledger)
