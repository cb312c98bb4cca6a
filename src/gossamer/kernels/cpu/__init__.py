"""Attention by Gossamer's own C++ kernel: any pattern in linear memory, forward and backward, in place."""

from gossamer.kernels.cpu.attention import CPU_TYPES, Prepared, cpu, prepare
from gossamer.kernels.cpu.library import instruction_set, why_no_library

__all__ = ["CPU_TYPES", "Prepared", "cpu", "instruction_set", "prepare", "why_no_library"]
