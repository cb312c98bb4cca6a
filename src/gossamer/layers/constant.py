"""What a part gives that no longer reads anything: the bias of its last map, the same for every token."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.kernels.ledger import Ledger

__all__ = ["Constant"]


class Constant(nn.Module):
    """`bias` [size] for every token, zeros where it has none: the last map of a part without heads or neurons."""

    def __init__(self, size: int, *, bias: bool) -> None:
        super().__init__()
        self.size = size
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x: Float[Tensor, "batch length hidden"]) -> Float[Tensor, "batch length size"]:
        shape = (*x.shape[:-1], self.size)
        if self.bias is None:
            return x.new_zeros(shape)
        # A view of a parameter asks for gradients even where nobody computes them.
        return (self.bias if torch.is_grad_enabled() else self.bias.detach()).expand(shape)

    def account(self, x: Float[Tensor, "batch length hidden"], ledger: Ledger) -> Tensor:
        """What `forward` takes: nothing is copied."""
        shape = (*x.shape[:-1], self.size)
        return ledger.operation(shape, x.dtype, ()) if self.bias is None else ledger.view(self.bias, *shape)

    def describe(self) -> str:
        """A few words for the tree of a model."""
        return f"{self.size:,}, the same for every token" if self.bias is not None else "nothing"
