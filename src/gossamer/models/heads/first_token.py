"""Scores of a whole text from its first token."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import Linear
from gossamer.models.heads.base import HeadModule, Tokens
from gossamer.models.output import Output

__all__ = ["FirstTokenHead"]


class FirstTokenHead(HeadModule):
    """Scores of the whole text from its first token: `output(activation(dense(x)))`, `dense` being BERT's pooler.

    `pooled` is what the last map reads, without its dropout. The first token is that of the first position, padding or
    not, as in `transformers`: pad texts for such a head on the right.
    """

    def __init__(
        self, hidden_size: int, outputs: int, *, activation: str, dropout: float = 0.0, input_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)
        self.output = Linear(hidden_size, outputs)
        self.activation, self.dropout, self.input_dropout = activation, dropout, input_dropout

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        first = F.dropout(hidden[:, 0], self.input_dropout, self.training)
        pooled = self.dense(first, self.activation)
        return Output(logits=self.output(F.dropout(pooled, self.dropout, self.training)), pooled=pooled)

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        first = ledger.operation((len(hidden), hidden.shape[-1]), hidden.dtype, (hidden,))
        pooled = self.dense.account(ledger.dropout(first, self.input_dropout), ledger, self.activation)
        return self.output.account(ledger.dropout(pooled, self.dropout), ledger)
