"""What is zero, or named, is removed from a model: heads, feed-forward neurons, layers."""

from gossamer.recipes.removal.remove import remove

__all__ = ["remove"]
