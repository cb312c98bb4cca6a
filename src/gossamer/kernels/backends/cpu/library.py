"""Finds and loads the compiled kernel for this processor; the C interface is native/gossamer_attention.h."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_double, c_int
from functools import cache
from pathlib import Path

import torch

from gossamer.errors import InputError, quote
from gossamer.kernels.backends.cpu.c_call import Call, CField, why_another_call

__all__ = [
    "instruction_set",
    "library",
    "peak_rate",
    "why_instruction_set",
    "why_no_library",
]

INSTRUCTION_SETS = ("avx512_bf16", "avx512", "avx2", "baseline")
"""The best first; the first one only where it pays, see `_pays`."""
GAIN, SECONDS = 1.2, 0.001
"""How much faster than float32 bfloat16's dot products must be to be taken, and for how long each is measured."""
VARIABLE = "GOSSAMER_CPU_KERNEL"
"""Names an instruction set to take, or "none"; for tests and comparisons."""
FOLDER = "GOSSAMER_CPU_KERNEL_DIR"
"""Names another folder to take the libraries from; for tests, such as those under sanitizers."""


def library() -> ctypes.CDLL:
    """The kernel for this processor. Raises InputError where there is none: see `why_no_library`."""
    found = _load()
    if isinstance(found, str):
        raise InputError(f"the CPU kernel is not there: {found}")
    return found[1]


def instruction_set() -> str | None:
    """What the kernel was compiled for: one of `INSTRUCTION_SETS`; None where it is not there."""
    found = _load()
    return None if isinstance(found, str) else found[0]


def why_instruction_set() -> str | None:
    """Why it is that one, in words, where there was a choice; None where there was none."""
    if instruction_set() is None:
        return None
    if os.environ.get(VARIABLE):
        return f"{VARIABLE} names it"
    gain = _dot_product_gain()
    return None if gain is None else f"bfloat16's dot products run at {gain:.1f} times float32's rate"


def peak_rate(dtype: torch.dtype, seconds: float) -> float | None:
    """GFLOP/s of one thread's multiply-adds on registers, over so many seconds of its processor time.

    In float32, or of bfloat16's dot product; None where the kernel's instruction set has none (float32's serves there).
    Raises InputError for other dtypes, and where the kernel is not there.
    """
    types = {torch.float32: 0, torch.bfloat16: 1}
    if dtype not in types:
        raise InputError(f"dtype is {dtype}; peaks are measured in {' and '.join(map(str, types))}")
    return library().gs_peak(types[dtype], seconds) or None


@torch.compiler.assume_constant_result
def why_no_library() -> str | None:
    """Why the kernel is not there, in words; None where it is."""
    found = _load()
    return found if isinstance(found, str) else None


@cache
def _load() -> tuple[str, ctypes.CDLL] | str:
    """The instruction set and its library, or why there is none."""
    asked = os.environ.get(VARIABLE, "")
    if asked == "none":
        return f"{VARIABLE} is 'none'"
    if asked and asked not in INSTRUCTION_SETS:
        raise InputError(f"{VARIABLE} is {quote(asked)}; it must be one of {', '.join(INSTRUCTION_SETS)}, none")
    try:
        baseline = _open("baseline")
        if baseline is None and (folder := os.environ.get(FOLDER)):
            return f"{FOLDER} is {quote(folder)}, which holds no libraries; name a folder that does, or leave it out"
        if baseline is None:
            return "it was not compiled when Gossamer was installed; install again with a C++ compiler there"
        for name in (asked,) if asked else INSTRUCTION_SETS:
            if not baseline.gs_supports(name.encode()) or (found := _open(name)) is None:
                continue
            if asked or name != "avx512_bf16" or _pays():
                return name, found
    except (OSError, AttributeError) as problem:
        return f"it does not load ({problem}); install Gossamer again"
    return f"this processor has no {asked}"


def _pays() -> bool:
    """Whether dot products beat widening bfloat16 to float32: some processors run them at half float32's rate."""
    gain = _dot_product_gain()
    return gain is not None and gain > GAIN


@cache
def _dot_product_gain() -> float | None:
    """Rate of bfloat16's dot products over that of float32's multiply-adds; None where there is no kernel with them."""
    baseline, found = _open("baseline"), _open("avx512_bf16")
    if baseline is None or found is None or not baseline.gs_supports(b"avx512_bf16"):
        return None
    single, pair = (found.gs_peak(number, SECONDS) for number in (0, 1))
    return float(pair / single)


def _open(name: str) -> ctypes.CDLL | None:
    path = Path(os.environ.get(FOLDER) or Path(__file__).parent) / f"gossamer_attention_{name}.so"
    if not path.is_file():
        return None
    opened = ctypes.CDLL(str(path))
    opened.gs_supports.argtypes = [c_char_p]
    opened.gs_fields.argtypes, opened.gs_fields.restype = [], ctypes.POINTER(CField)
    opened.gs_peak.argtypes, opened.gs_peak.restype = [c_int, c_double], c_double
    for function in (opened.gs_forward, opened.gs_backward):
        function.argtypes = [ctypes.POINTER(Call)]
        function.restype = c_int
    if why := why_another_call(opened):
        raise OSError(f"it belongs to another version: {why}")
    return opened
