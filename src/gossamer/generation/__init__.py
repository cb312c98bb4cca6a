"""Text from a decoder: `generate` and what it returns; how likely given texts are: `score_continuations`."""

from gossamer.generation.beams import Beams
from gossamer.generation.continuations import ContinuationScore, score_continuations
from gossamer.generation.generate import Generated, Generation, generate
from gossamer.generation.inputs import Prompts, Stops
from gossamer.generation.loop import Piece
from gossamer.generation.rules import Rules

__all__ = [
    "Beams",
    "ContinuationScore",
    "Generated",
    "Generation",
    "Piece",
    "Prompts",
    "Rules",
    "Stops",
    "generate",
    "score_continuations",
]
