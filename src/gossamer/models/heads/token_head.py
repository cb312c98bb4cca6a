"""Scores of every token."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers import LayerNorm, Linear, RMSNorm
from gossamer.models.bricks import Norm, require_norm
from gossamer.models.checks import require, require_choice, require_flag
from gossamer.models.heads.base import HeadModule, Tokens
from gossamer.models.output import Output
from gossamer.models.settings import Activation

__all__ = ["TokenHead", "require_dense"]


@runtime_checkable
class Settings(Protocol):
    """What the heads of tokens share."""

    @property
    def dense_activation(self) -> Activation | None: ...
    @property
    def dense_bias(self) -> bool: ...
    @property
    def norm(self) -> Norm | None: ...


def require_dense(settings: Settings) -> None:
    """Refuse settings of a dense map that is not there, and unknown ones."""
    if settings.dense_activation is not None:
        require_choice(settings, Activation, "dense_activation")
    require_flag(settings, "dense_bias")
    require_norm(settings, "norm")
    alone = settings.dense_activation is None
    require(not alone or settings.norm is None, "norm", settings.norm, "None without a dense_activation")
    require(not alone or settings.dense_bias, "dense_bias", settings.dense_bias, "true without a dense_activation")


class TokenHead(HeadModule):
    """Scores of every token: dropout, linear; with a `dense_activation`, dense, activation and norm come first."""

    def __init__(
        self,
        hidden_size: int,
        outputs: int,
        dropout: float,
        *,
        dense_activation: str | None = None,
        dense_bias: bool = True,
        norm: LayerNorm | RMSNorm | None = None,
    ) -> None:
        super().__init__()
        self.dense = None if dense_activation is None else Linear(hidden_size, hidden_size, bias=dense_bias)
        self.norm = norm
        self.dense_activation = dense_activation
        self.output = Linear(hidden_size, outputs)
        self.dropout = dropout

    def forward(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens) -> Output:
        hidden = hidden if self.dense is None else self.dense(hidden, self.dense_activation)
        hidden = hidden if self.norm is None else self.norm(hidden)
        return Output(logits=self.output(F.dropout(hidden, self.dropout, self.training)))

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], tokens: Tokens, ledger: Ledger) -> Tensor:
        hidden = hidden if self.dense is None else self.dense.account(hidden, ledger, self.dense_activation)
        hidden = hidden if self.norm is None else self.norm.account(hidden, ledger)
        return self.output.account(ledger.dropout(hidden, self.dropout), ledger)
