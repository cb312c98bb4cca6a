"""The module of every product with a weight."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.kernels.ledger import Ledger
from gossamer.layers.storages import DENSE, Storage

__all__ = ["Linear", "frozen_names"]


class Linear(nn.Linear):
    """`torch.nn.Linear` by the primitive: `weight` [outputs, inputs] and `bias` [outputs], or None.

    `storage` says how the weight is kept, and computes the product: the weight alone unless `store` is called.
    """

    storage: Storage = DENSE

    def forward(
        self,
        x: Float[Tensor, "*rest inputs"],
        activation: str | None = None,
        residual: Float[Tensor, "*rest outputs"] | None = None,
    ) -> Float[Tensor, "*rest outputs"]:
        return self.storage.product(self, x, activation, residual)

    def account(self, x: Float[Tensor, "*rest inputs"], ledger: Ledger, activation: str | None = None) -> Tensor:
        """What `forward` takes."""
        return self.storage.account(self, x, ledger, activation)

    def whole_weight(self) -> Float[Tensor, "outputs inputs"]:
        """The weight as one matrix, however it is kept."""
        return self.storage.whole(self)

    def describe(self) -> str:
        """A few words for the tree of a model."""
        return f"{self.in_features:,} → {self.out_features:,}{self.storage.describe()}"

    def store(self, storage: Storage) -> None:
        """Keep a dense weight in this way from now on. Raises InputError where that cannot be done."""
        assert self.storage == DENSE, self.storage
        tensors = storage.tensors(self.weight.detach())
        self.storage = storage
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor))
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in storage.frozen)

    @torch.no_grad()
    def merge(self) -> None:
        """Keep the weight as one matrix from now on, in the parameter that it was stored beside."""
        self.weight.copy_(self.whole_weight())
        for name in [one for one in self._parameters if one not in ("weight", "bias")]:
            del self._parameters[name]
        self.storage = DENSE


def frozen_names(module: nn.Module) -> set[str]:
    """The names of the parameters that a storage of some map inside leaves as they are."""
    return {
        f"{place}.{name}" if place else name
        for place, part in module.named_modules()
        if isinstance(part, Linear)
        for name in part.storage.frozen
    }
