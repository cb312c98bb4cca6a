from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from gossamer.layers.masks import Gate
from gossamer.training.pruning.scores.base import Ranked, Score, mean_of_all

__all__ = ["SoftMovement"]


class SoftMovement(Score, name="soft-movement"):
    """Scores S that learn as those of movement do; what is kept are the units of `sigmoid(S) > threshold`.

    The penalty is the mean of sigmoid(S). In the paper its weight rises with the schedule and decides how many stay;
    here it counts while more are kept than the schedule says. The threshold is one for all, whatever
    the scope. Source: Sanh et al. 2020 (arXiv 2005.07683), section 4.
    """

    gate: ClassVar[Gate] = "straight-through"
    penalty_weight: ClassVar[float | None] = 400.0

    def masks(self, ranked: Ranked, share: float) -> list[Tensor] | None:
        return [(one.detach().sigmoid() > ranked.threshold).to(one.dtype) for one in ranked.learnt()]

    def penalty(self, scores: Sequence[Tensor]) -> Tensor:
        return mean_of_all([torch.sigmoid(one) for one in scores])
