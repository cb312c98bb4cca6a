"""DeBERTa v2 and v3 (He et al. 2021, arXiv 2006.03654 and 2111.09543) as `transformers` stores them."""

from gossamer.families.deberta_v2.form import FAMILY

__all__ = ["FAMILY"]
