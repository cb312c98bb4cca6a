import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.training.pruning.scores.base import Measured

__all__ = ["Random"]


class Random(Measured, name="random"):
    """A number drawn for each weight, the same at every step of a seed: what any other score is to be better than."""

    def of(self, weight: Float[Tensor, "outputs inputs"], generator: torch.Generator) -> Tensor:
        return torch.rand(weight.shape, generator=generator, dtype=torch.float32).to(weight.device)
