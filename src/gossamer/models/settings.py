"""Words that several settings may take."""

from typing import Literal

__all__ = ["NORMS_AT", "Activation", "NormPlace", "Reversible", "norm_count"]

Reversible = Literal["no", "mean", "concatenated"]
"""Whether residuals can be undone, and what is read of their two streams in the end."""
Activation = Literal["gelu", "gelu_tanh", "gelu_sigmoid", "relu", "silu"]
NormPlace = Literal["post", "pre", "both", "none"]
NORMS_AT: dict[NormPlace, int] = {"post": 1, "pre": 1, "both": 2, "none": 0}
"""How many norms a part has."""


def norm_count(place: NormPlace, *, reads: bool) -> int:
    """How many norms a part has there: one that reads nothing, for want of heads or neurons, that of the sum alone."""
    return NORMS_AT[place] if reads or place == "post" else 0
