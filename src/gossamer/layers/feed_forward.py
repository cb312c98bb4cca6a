"""The feed-forward half of a layer (Vaswani et al. 2017, section 3.3) and the activations it may use."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ACTIVATIONS", "FeedForwardNetwork"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class FeedForwardNetwork(nn.Module):
    """`down(activation(up(x)))`. Returns the sublayer's output; the caller adds the residual and applies `norm`."""

    def __init__(self, hidden_size: int, width: int, *, activation: str, norm_eps: float) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, width)
        self.down = nn.Linear(width, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.activation = activation

    def forward(self, hidden: Float[Tensor, "batch length hidden"]) -> Float[Tensor, "batch length hidden"]:
        return self.down(ACTIVATIONS[self.activation](self.up(hidden)))
