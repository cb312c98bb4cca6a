"""The module of every product with a weight."""

from jaxtyping import Float
from torch import Tensor, nn

from gossamer.kernels import linear
from gossamer.kernels.accounts import account_linear
from gossamer.kernels.ledger import Ledger

__all__ = ["Linear"]


class Linear(nn.Linear):
    """`torch.nn.Linear` by the primitive: `weight` [outputs, inputs] and `bias` [outputs], or None."""

    def forward(
        self,
        x: Float[Tensor, "*rest inputs"],
        activation: str | None = None,
        residual: Float[Tensor, "*rest outputs"] | None = None,
    ) -> Float[Tensor, "*rest outputs"]:
        return linear(x, self.weight, self.bias, activation, residual)

    def account(self, x: Float[Tensor, "*rest inputs"], ledger: Ledger, activation: str | None = None) -> Tensor:
        """What `forward` takes."""
        return account_linear(x, self.weight, self.bias, ledger, activation)
