"""BART (Lewis et al. 2019, arXiv 1910.13461) as `transformers` stores it."""

from gossamer.families.bart.form import FAMILY

__all__ = ["FAMILY"]
