"""Words that several settings may take."""

from typing import Literal

__all__ = ["NORMS_AT", "Activation", "NormPlace"]

Activation = Literal["gelu", "gelu_tanh", "gelu_sigmoid", "relu", "silu"]
NormPlace = Literal["post", "pre", "both", "none"]
NORMS_AT: dict[NormPlace, int] = {"post": 1, "pre": 1, "both": 2, "none": 0}
"""How many norms a part has."""
