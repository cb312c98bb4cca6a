"""Attention by Gossamer's own C++ kernel: any pattern in linear memory, forward and backward, in place."""

from gossamer.kernels.backends.cpu.attention import Prepared, cpu, prepare
from gossamer.kernels.backends.cpu.backend import CPU, kernel_is_there
from gossamer.kernels.backends.cpu.library import why_no_library

__all__ = ["CPU", "Prepared", "cpu", "kernel_is_there", "prepare", "why_no_library"]
