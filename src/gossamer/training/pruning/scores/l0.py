from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from gossamer.layers.masks import Gate, expected_l0
from gossamer.training.pruning.scores.base import Ranked, Score, mean_of_all

__all__ = ["L0"]


class L0(Score, name="l0"):
    """Gates of the hard concrete distribution, whose log alphas learn (`layers.masks.hard_concrete`).

    The penalty is the expected share of gates that are not 0. In the paper its weight decides how many stay; here it
    counts while more are open than the schedule says. Gates between 0 and 1 are part of the weights in the end. They
    are not ranked, whatever the scope. Source: Louizos et al. 2018 (arXiv 1712.01312), sections 2 and 4.
    """

    gate: ClassVar[Gate] = "hard-concrete"
    penalty_weight: ClassVar[float | None] = 125.0

    def masks(self, ranked: Ranked, share: float) -> list[Tensor] | None:
        return None

    def penalty(self, scores: Sequence[Tensor]) -> Tensor:
        return mean_of_all([expected_l0(one) for one in scores])
