"""Vocabularies cut to what texts use."""

from gossamer.recipes.vocabulary.trim import trim

__all__ = ["trim"]
