"""What a decoder keeps of the tokens that it has read."""

from gossamer.models.cache.cache import Cache

__all__ = ["Cache"]
