"""The feed-forward half of a layer (Vaswani et al. 2017, section 3.3)."""

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers.linear import Linear
from gossamer.layers.norms import LayerNorm, RMSNorm

__all__ = ["FeedForwardNetwork"]


class FeedForwardNetwork(nn.Module):
    """`down(activation(up(x)))`; `gated`, `down(activation(gate(x)) * up(x))` (Shazeer 2020, section 2).

    Returns the sublayer's output; the caller adds the residual and applies `norm`.
    """

    def __init__(
        self,
        hidden_size: int,
        width: int,
        *,
        activation: str,
        norm: LayerNorm | RMSNorm,
        gated: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.gate = Linear(hidden_size, width, bias=bias) if gated else None
        self.up = Linear(hidden_size, width, bias=bias)
        self.down = Linear(width, hidden_size, bias=bias)
        self.norm = norm
        self.activation = activation

    def forward(self, hidden: Float[Tensor, "batch length hidden"]) -> Float[Tensor, "batch length hidden"]:
        if self.gate is None:
            return self.down(self.up(hidden, self.activation))
        return self.down(self.gate(hidden, self.activation) * self.up(hidden))

    @own_frame
    def account(self, hidden: Float[Tensor, "batch length hidden"], ledger: Ledger) -> Tensor:
        """What `forward` takes."""
        if self.gate is None:
            return self.down.account(self.up.account(hidden, ledger, self.activation), ledger)
        gated = ledger.multiply(self.gate.account(hidden, ledger, self.activation), self.up.account(hidden, ledger))
        return self.down.account(gated, ledger)
