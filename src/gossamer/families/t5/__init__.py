"""T5 (Raffel et al. 2020, arXiv 1910.10683), version 1.0, and 1.1 with gates, as `transformers` stores it."""

from gossamer.families.t5.form import FAMILY

__all__ = ["FAMILY"]
