"""ELECTRA (Clark et al. 2020), generator and discriminator, as `transformers` stores it."""

from gossamer.families.electra.form import FAMILY

__all__ = ["FAMILY"]
