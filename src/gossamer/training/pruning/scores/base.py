"""What of a model matters: a score, by which units are kept or removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Measured", "Score"]


class Score(ABC):
    """A kind of score is a small class in a file of its own, with its formula and its source; `name` asks for it.

    A unit's score is the mean of those of its weights (`units.mean_scores`), or is learnt.
    """

    kinds: ClassVar[dict[str, type[Score]]] = {}
    name: ClassVar[str]

    def __init_subclass__(cls, name: str | None = None, **rest: object) -> None:
        super().__init_subclass__(**rest)
        if name is not None:
            cls.name = name
            Score.kinds[name] = cls


class Measured(Score):
    """One that is told of weights as they are, without training."""

    @abstractmethod
    def of(self, weight: Float[Tensor, "outputs inputs"], generator: torch.Generator) -> Tensor:
        """The score of every weight; a generator for what is drawn."""
