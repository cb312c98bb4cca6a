from typing import ClassVar

from torch import Tensor

from gossamer.layers.masks import Gate
from gossamer.training.pruning.scores.base import Ranked, Ranking

__all__ = ["Movement"]


class Movement(Ranking, name="movement"):
    """Scores S that learn; what is kept are the units of the highest (top-v).

    The gradient passes the mask straight through, `dL/dS = dL/d(mask * W) * W`, so that S rises where weights move away
    from 0. Source: Sanh et al. 2020 (arXiv 2005.07683), section 4.
    """

    gate: ClassVar[Gate] = "straight-through"

    def of_units(self, ranked: Ranked) -> list[Tensor]:
        return [one.detach() for one in ranked.learnt()]
