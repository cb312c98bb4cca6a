"""An encoder in ALBERT's form: layers that share weights in groups, and a factorised embedding."""

from gossamer.recipes.sharing.share import share

__all__ = ["share"]
