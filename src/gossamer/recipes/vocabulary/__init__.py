"""Vocabularies cut to what texts use."""
