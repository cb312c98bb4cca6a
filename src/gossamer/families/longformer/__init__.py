"""Longformer (Beltagy et al. 2020) as `transformers` stores it; lengthened BERTs are written in this format too."""

from gossamer.families.longformer.form import FAMILY

__all__ = ["FAMILY"]
