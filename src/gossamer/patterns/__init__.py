"""Who may attend to whom: frozen values that answer for themselves: masks, counts, pieces, pictures."""

from gossamer.patterns.base import Pattern, Union
from gossamer.patterns.chunks import Chunks
from gossamer.patterns.fixed import Fixed
from gossamer.patterns.full import Full
from gossamer.patterns.global_tokens import Global
from gossamer.patterns.hashed import Hashed
from gossamer.patterns.hashes import Hashes
from gossamer.patterns.per_head import PerHead
from gossamer.patterns.pieces import Band, Cells, Kept, Pieces
from gossamer.patterns.prefix import Prefix
from gossamer.patterns.reading import pattern_from_dict
from gossamer.patterns.sink import Sink
from gossamer.patterns.strided import Strided
from gossamer.patterns.window import Window

__all__ = [
    "Band",
    "Cells",
    "Chunks",
    "Fixed",
    "Full",
    "Global",
    "Hashed",
    "Hashes",
    "Kept",
    "Pattern",
    "PerHead",
    "Pieces",
    "Prefix",
    "Sink",
    "Strided",
    "Union",
    "Window",
    "pattern_from_dict",
]
