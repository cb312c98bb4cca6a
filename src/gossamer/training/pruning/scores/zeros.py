from torch import Tensor

from gossamer.training.pruning.scores.base import Ranked, Score

__all__ = ["Zeros"]


class Zeros(Score, name="zeros"):
    """What is 0 stays 0: a model that was pruned learns on, and stays as it was pruned."""

    is_settled = True

    def masks(self, ranked: Ranked, share: float) -> list[Tensor] | None:
        return [(one.weight.detach() != 0).to(one.weight.dtype) for one in ranked.maps()]
