"""The scores, one file each; a kind is known by its name wherever this package is imported."""

from gossamer.training.pruning.scores.base import (
    Calibrated,
    Measured,
    OfWeights,
    Ranked,
    Ranking,
    Score,
    is_calibrated,
)
from gossamer.training.pruning.scores.gradient import Gradient
from gossamer.training.pruning.scores.l0 import L0
from gossamer.training.pruning.scores.magnitude import Magnitude
from gossamer.training.pruning.scores.movement import Movement
from gossamer.training.pruning.scores.random import Random
from gossamer.training.pruning.scores.soft_movement import SoftMovement
from gossamer.training.pruning.scores.wanda import Wanda
from gossamer.training.pruning.scores.zeros import Zeros

__all__ = [
    "L0",
    "Calibrated",
    "Gradient",
    "Magnitude",
    "Measured",
    "Movement",
    "OfWeights",
    "Random",
    "Ranked",
    "Ranking",
    "Score",
    "SoftMovement",
    "Wanda",
    "Zeros",
    "is_calibrated",
]
