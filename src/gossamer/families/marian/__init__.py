"""Marian (Junczys-Dowmunt et al. 2018): OPUS-MT's translators, as `transformers` stores them."""

from gossamer.families.marian.form import FAMILY

__all__ = ["FAMILY"]
