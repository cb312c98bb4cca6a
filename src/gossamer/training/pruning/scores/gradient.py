from jaxtyping import Float
from torch import Tensor

from gossamer.training.pruning.scores.base import Calibrated

__all__ = ["Gradient"]


class Gradient(Calibrated, name="gradient"):
    """`|dL/dW * W|`: how much the loss would change, to first order, without the weight.

    Source: Molchanov et al. 2017 (arXiv 1611.06440), section 2.2, and 2019 (arXiv 1906.10771), section 3.1.
    """

    reads = "gradients"

    def of(self, weight: Float[Tensor, "outputs inputs"], seen: Float[Tensor, "outputs inputs"]) -> Tensor:
        return (seen * weight).abs()
