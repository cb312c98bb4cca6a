"""The scores, one file each; a kind is known by its name wherever this package is imported."""

from gossamer.training.pruning.scores.base import Measured, Score
from gossamer.training.pruning.scores.magnitude import Magnitude
from gossamer.training.pruning.scores.random import Random

__all__ = ["Magnitude", "Measured", "Random", "Score"]
