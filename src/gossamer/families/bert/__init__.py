"""BERT (Devlin et al. 2019) as `transformers` stores it. Copy this folder to add a family (docs/families.md)."""

from gossamer.families.bert.form import FAMILY

__all__ = ["FAMILY"]
