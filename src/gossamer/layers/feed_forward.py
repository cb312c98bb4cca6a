"""The feed-forward half of a layer (Vaswani et al. 2017, section 3.3)."""

import torch
from jaxtyping import Float
from torch import Tensor, compiler, is_grad_enabled, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.kernels.torch_state import in_transform
from gossamer.layers.constant import Constant
from gossamer.layers.linear import Linear
from gossamer.layers.norms import LayerNorm, RMSNorm

__all__ = ["FeedForwardNetwork"]


class FeedForwardNetwork(nn.Module):
    """`down(activation(up(x)))`; `gated`, `down(activation(gate(x)) * up(x))` (Shazeer 2020, section 2).

    `dropout` is that of what `down` reads. With a `chunk` so many tokens of each text go through it at once, and what
    lies between the maps is computed again in the backward pass, chunk by chunk (Reformer, section 3). Without neurons
    it gives the bias of `down` alone. Returns the sublayer's output; the caller adds the residual and applies `norm`
    and `output_norm`.
    """

    up: Linear

    def __init__(
        self,
        hidden_size: int,
        width: int,
        *,
        activation: str,
        norm: LayerNorm | RMSNorm | None,
        output_norm: LayerNorm | RMSNorm | None = None,
        gated: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.width = width
        self.gate = Linear(hidden_size, width, bias=bias) if gated and width else None
        if width:
            self.up = Linear(hidden_size, width, bias=bias)
        whole = Linear(width, hidden_size, bias=bias) if width else Constant(hidden_size, bias=bias)
        self.down: Linear | Constant = whole
        self.norm = norm
        self.output_norm = output_norm
        self.activation = activation

    @property
    def does_nothing(self) -> bool:
        """Whether what surrounds the layer would be as good without it."""
        return self.width == 0 and self.down.bias is None and self.norm is None

    def forward(
        self, hidden: Float[Tensor, "batch length hidden"], dropout: float = 0.0, chunk: int | None = None
    ) -> Float[Tensor, "batch length hidden"]:
        if not self.width:
            return self.down(hidden)
        if chunk is None or hidden.shape[1] <= chunk or compiler.is_compiling() or in_transform():
            return self._whole(hidden, dropout)
        parts = hidden.split(chunk, dim=1)
        if is_grad_enabled():
            return torch.cat([checkpoint(self._whole, part, dropout, use_reentrant=False) for part in parts], dim=1)
        return torch.cat([self._whole(part, dropout) for part in parts], dim=1)

    def _whole(self, hidden: Tensor, dropout: float) -> Tensor:
        if self.gate is None:
            middle = self.up(hidden, self.activation)
        else:
            middle = self.gate(hidden, self.activation) * self.up(hidden)
        return self.down(F.dropout(middle, dropout, self.training))

    @own_frame
    def account(
        self,
        hidden: Float[Tensor, "batch length hidden"],
        ledger: Ledger,
        dropout: float = 0.0,
        chunk: int | None = None,
    ) -> Tensor:
        """What `forward` takes."""
        if not self.width:
            return self.down.account(hidden, ledger)
        rows, length, size = hidden.shape
        if chunk is None or length <= chunk:
            return self._account_whole(hidden, ledger, dropout)

        @own_frame
        def step(x: Tensor, ledger: Ledger) -> Tensor:
            return self._account_whole(x, ledger, dropout)

        parts = []
        for at in range(0, length, chunk):
            part = ledger.view(hidden, rows, min(chunk, length - at), size)
            parts.append(ledger.checkpoint(step, part) if ledger.training else step(part, ledger))
        return ledger.operation(hidden.shape, parts[0].dtype, tuple(parts))

    def _account_whole(self, hidden: Tensor, ledger: Ledger, dropout: float) -> Tensor:
        if self.gate is None:
            middle = self.up.account(hidden, ledger, self.activation)
        else:
            gate = self.gate.account(hidden, ledger, self.activation)
            middle = ledger.multiply(gate, self.up.account(hidden, ledger))
        return self.down.account(ledger.dropout(middle, dropout), ledger)
