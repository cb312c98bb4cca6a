"""Scores of every token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.layers import Linear
from gossamer.models.bricks import Norm, require_norm
from gossamer.models.checks import require, require_choice, require_flag
from gossamer.models.heads.base import HeadModule, Tokens
from gossamer.models.output import Output
from gossamer.models.settings import Activation

if TYPE_CHECKING:
    from gossamer.models.architecture import Architecture

__all__ = ["TokenHead", "require_dense", "token_flops", "token_held"]


class Settings(Protocol):
    """What the heads of tokens share."""

    @property
    def dense_activation(self) -> Activation | None: ...
    @property
    def dense_bias(self) -> bool: ...
    @property
    def norm(self) -> Norm | None: ...
    @property
    def outputs(self) -> int: ...


def require_dense(settings: Settings) -> None:
    """Refuse settings of a dense map that is not there, and unknown ones."""
    if settings.dense_activation is not None:
        require_choice(settings, Activation, "dense_activation")
    require_flag(settings, "dense_bias")
    require_norm(settings, "norm")
    alone = settings.dense_activation is None
    require(not alone or settings.norm is None, "norm", settings.norm, "None without a dense_activation")
    require(not alone or settings.dense_bias, "dense_bias", settings.dense_bias, "true without a dense_activation")


def token_flops(settings: Settings, architecture: Architecture, length: int) -> int:
    """Of one text."""
    hidden = architecture.hidden_size
    return 2 * length * hidden * (settings.outputs + (0 if settings.dense_activation is None else hidden))


def token_held(settings: Settings, architecture: Architecture, length: int) -> int:
    """The scores, and what they are made of."""
    dense = 0 if settings.dense_activation is None else 2 * architecture.hidden_size
    return length * (settings.outputs + dense)


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
        norm: nn.Module | None = None,
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
