from jaxtyping import Float
from torch import Generator, Tensor

from gossamer.training.pruning.scores.base import Measured

__all__ = ["Magnitude"]


class Magnitude(Measured, name="magnitude"):
    """`|W|`. Source: Han et al. 2015 (arXiv 1506.02626), section 3; Sanh et al. 2020 (arXiv 2005.07683), section 3."""

    def of(self, weight: Float[Tensor, "outputs inputs"], generator: Generator) -> Tensor:
        return weight.abs()
