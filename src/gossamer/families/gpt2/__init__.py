"""GPT-2 (Radford et al. 2019) as `transformers` stores it: a decoder, with the fused and turned matrices of Conv1D."""

from gossamer.families.gpt2.form import FAMILY

__all__ = ["FAMILY"]
