"""Text from a decoder: `generate`, and what it returns."""

from gossamer.generation.beams import Beams
from gossamer.generation.generate import Generated, Generation, generate
from gossamer.generation.inputs import Prompts, Stops
from gossamer.generation.loop import Piece
from gossamer.generation.rules import Rules

__all__ = ["Beams", "Generated", "Generation", "Piece", "Prompts", "Rules", "Stops", "generate"]
