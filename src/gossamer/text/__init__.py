"""Text: tokenizers, and the speeches that ship with the package."""

from gossamer.text.speeches import Speech, passages, speeches
from gossamer.text.tokenizer import Tokenizer
from gossamer.text.tokenizer_build import has_vocabulary_files
from gossamer.text.training import train_tokenizer

__all__ = ["Speech", "Tokenizer", "has_vocabulary_files", "passages", "speeches", "train_tokenizer"]
