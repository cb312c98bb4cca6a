"""Attention by Gossamer's own C++ kernel: any pattern in linear memory, forward and backward, in place."""

from gossamer.kernels.cpu.attention import CPU_TYPES, cpu
from gossamer.kernels.cpu.library import instruction_set, why_no_library

__all__ = ["CPU_TYPES", "cpu", "instruction_set", "why_no_library"]
