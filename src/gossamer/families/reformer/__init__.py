"""Reformer (Kitaev et al. 2020, arXiv 2001.04451) as `transformers` stores it: local and hashed layers."""

from gossamer.families.reformer.form import FAMILY

__all__ = ["FAMILY"]
