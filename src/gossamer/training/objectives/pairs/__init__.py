"""Vectors of texts that belong together: rows, losses, scores."""
