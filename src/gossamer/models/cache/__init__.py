"""What a decoder keeps of the tokens that it has read."""

from gossamer.models.cache.cache import Cache, StackCache

__all__ = ["Cache", "StackCache"]
