"""Text: tokenizers, and the speeches that ship with the package."""

from gossamer.text.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
