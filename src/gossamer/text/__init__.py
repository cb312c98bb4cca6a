"""Text: tokenizers, and the speeches that ship with the package."""

from gossamer.text.speeches import Speech, passages, speeches
from gossamer.text.tokenizer import Tokenizer

__all__ = ["Speech", "Tokenizer", "passages", "speeches"]
