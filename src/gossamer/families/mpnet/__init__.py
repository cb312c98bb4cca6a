"""MPNet (Song et al. 2020, arXiv 2004.09297) as `transformers` stores it."""

from gossamer.families.mpnet.form import FAMILY

__all__ = ["FAMILY"]
