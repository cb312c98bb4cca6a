"""Rows with labels: of texts, tokens, and answers."""
