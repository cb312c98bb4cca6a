"""The feed-forward half of a layer (Vaswani et al. 2017, section 3.3)."""

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.layers.linear import Linear

__all__ = ["FeedForwardNetwork"]


class FeedForwardNetwork(nn.Module):
    """`down(activation(up(x)))`. Returns the sublayer's output; the caller adds the residual and applies `norm`."""

    def __init__(self, hidden_size: int, width: int, *, activation: str, norm_eps: float) -> None:
        super().__init__()
        self.up = Linear(hidden_size, width)
        self.down = Linear(width, hidden_size)
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.activation = activation

    def forward(self, hidden: Float[Tensor, "batch length hidden"]) -> Float[Tensor, "batch length hidden"]:
        return self.down(self.up(hidden, self.activation))
