from jaxtyping import Float
from torch import Tensor

from gossamer.training.pruning.scores.base import Calibrated

__all__ = ["Wanda"]


class Wanda(Calibrated, name="wanda"):
    """`|W_ij| * ||x_j||`, the norm of what the weight reads over all tokens.

    In the paper the weights of one output are compared with each other, which is `scope="row"` with single weights.
    Source: Sun et al. 2023 (arXiv 2306.11695), section 3.
    """

    reads = "activations"

    def of(self, weight: Float[Tensor, "outputs inputs"], seen: Float[Tensor, "inputs"]) -> Tensor:
        return weight.abs() * seen
