"""Words that several settings may take."""

from typing import Literal

__all__ = ["Activation"]

Activation = Literal["gelu", "gelu_tanh", "gelu_sigmoid", "relu", "silu"]
