"""What a model is trained to do, one file a kind: settings, data, labels, loss and scores."""

from gossamer.training.objectives.base import IGNORED, Batch, BatchSource, Objective
from gossamer.training.objectives.causal_lm import CausalObjective
from gossamer.training.objectives.language import LanguageObjective, Masking
from gossamer.training.objectives.masked_lm import MaskedObjective

__all__ = [
    "IGNORED",
    "Batch",
    "BatchSource",
    "CausalObjective",
    "LanguageObjective",
    "MaskedObjective",
    "Masking",
    "Objective",
]
