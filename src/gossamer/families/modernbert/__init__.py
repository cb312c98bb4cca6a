"""ModernBERT (Warner et al. 2024, arXiv 2412.13663, section 2.1) as `transformers` stores it: windows and gates."""

from gossamer.families.modernbert.form import FAMILY

__all__ = ["FAMILY"]
