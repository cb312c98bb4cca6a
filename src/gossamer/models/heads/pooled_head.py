"""Scores of a whole text from one vector: its first token, its first real one, or the mean of all real ones."""

from __future__ import annotations

from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import LayerNorm, Linear, RMSNorm
from gossamer.models.heads.base import HeadModule, Tokens
from gossamer.models.heads.embed import Pooling, SentenceEmbedding, pool
from gossamer.models.output import Output

__all__ = ["PooledHead"]


class PooledHead(HeadModule):
    """Scores of the whole text from one vector `x`: `output(norm(activation(dense(x))))`, `dense` as BERT's pooler.

    `pooled` is what the last map reads, without its dropout. `reads` says what `x` is: "first", the first position,
    padding or not, as in `transformers` (pad texts for such a head on the right); "first-real", the first token that is
    no padding; "mean", the mean of all that are none; "end", the last one that is `end_id`. inner: rows of `dense`, as
    many as it has columns unless given.
    """

    def __init__(
        self,
        hidden_size: int,
        outputs: int,
        *,
        activation: str,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        reads: Literal["first", "first-real", "mean", "end"] = "first",
        end_id: int | None = None,
        dense_bias: bool = True,
        norm: LayerNorm | RMSNorm | None = None,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        self.reads, self.end_id = reads, end_id
        self.norm = norm
        inner = hidden_size if inner is None else inner
        self.dense = Linear(hidden_size, inner, bias=dense_bias)
        self.output = Linear(inner, outputs)
        self.activation, self.dropout, self.input_dropout = activation, dropout, input_dropout

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        vector = F.dropout(self._read(hidden, tokens), self.input_dropout, self.training)
        pooled = self.dense(vector, self.activation)
        pooled = pooled if self.norm is None else self.norm(pooled)
        return Output(logits=self.output(F.dropout(pooled, self.dropout, self.training)), pooled=pooled)

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        shape = len(hidden), hidden.shape[-1]
        # A first position is a slice: who keeps it keeps all states.
        is_slice = self.reads == "first" or (self.reads == "first-real" and tokens.key_mask is None)
        vector = ledger.view(hidden, *shape) if is_slice else ledger.operation(shape, hidden.dtype, (hidden,))
        pooled = self.dense.account(ledger.dropout(vector, self.input_dropout), ledger, self.activation)
        pooled = pooled if self.norm is None else self.norm.account(pooled, ledger)
        return self.output.account(ledger.dropout(pooled, self.dropout), ledger)

    def _read(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Float[Tensor, "batch hidden"]:
        if self.reads == "first":
            return hidden[:, 0]
        if self.reads == "end":
            return hidden[torch.arange(len(hidden), device=hidden.device), self._last_end(tokens)]
        pooling: Pooling = "cls" if self.reads == "first-real" else "mean"
        return pool(SentenceEmbedding(pooling=pooling), hidden, tokens.key_mask)

    def _last_end(self, tokens: Tokens) -> Int[Tensor, "batch"]:
        """Where each text ends. Raises InputError for one that does not."""
        if tokens.input_ids is None:
            raise InputError(f"the head reads the token {self.end_id}, which only input_ids tell: give those")
        is_end = tokens.input_ids.eq(cast(int, self.end_id))
        if not torch.compiler.is_compiling() and not bool(is_end.any(dim=1).all()):
            row = int((~is_end.any(dim=1)).nonzero()[0])
            raise InputError(f"row {row} has no token {self.end_id}, the end of a text, which the head reads: add it")
        places = torch.arange(is_end.shape[1], device=is_end.device)
        return (places * is_end).argmax(dim=1)
