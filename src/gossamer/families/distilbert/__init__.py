"""DistilBERT (Sanh et al. 2019) as `transformers` stores it."""

from gossamer.families.distilbert.form import FAMILY

__all__ = ["FAMILY"]
