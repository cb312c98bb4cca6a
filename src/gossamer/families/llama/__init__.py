"""Llama (Touvron et al. 2023, arXiv 2302.13971, section 2.2) as `transformers` stores it: rotary, gated, RMS norms."""

from gossamer.families.llama.form import FAMILY

__all__ = ["FAMILY"]
