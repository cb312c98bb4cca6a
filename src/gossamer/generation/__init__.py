"""Text from a decoder: `generate`, and what it returns."""

from gossamer.generation.generate import Generated, Generation, generate
from gossamer.generation.inputs import Prompts, Stops
from gossamer.generation.loop import Piece

__all__ = ["Generated", "Generation", "Piece", "Prompts", "Stops", "generate"]
