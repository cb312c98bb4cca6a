"""ALBERT (Lan et al. 2020) as `transformers` stores it: factorised embeddings, layers that share their weights."""

from gossamer.families.albert.form import FAMILY

__all__ = ["FAMILY"]
