"""The machine's own peak as one more contestant, so that it is measured in the same rounds as those held against it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from harness import Entry

from gossamer.kernels.backends.cpu import why_no_library
from gossamer.kernels.backends.cpu.library import peak_rate

PEAKS = {torch.float32: "peak: float32 multiply-add", torch.bfloat16: "peak: bfloat16 dot product"}
SECONDS = 0.02


def peak_entries() -> list[Entry]:
    """One for each kind of multiply-add that the machine has; none without the compiled kernel, which measures them.

    Each tells the seconds that 1 GFLOP takes, of as many threads as torch uses now.
    """
    if why_no_library() is not None:
        return []
    having = [dtype for dtype in PEAKS if peak_rate(dtype, 0.001) is not None]
    return [Entry(PEAKS[dtype], partial(seconds_a_gflop, dtype), tells=True) for dtype in having]


def seconds_a_gflop(dtype: torch.dtype) -> float:
    """All threads at once: two on one core share its units."""
    count = torch.get_num_threads()
    with ThreadPoolExecutor(count) as pool:
        rates = list(pool.map(lambda _: peak_rate(dtype, SECONDS) or 0.0, range(count)))
    return 1 / sum(rates)


def peak_names(dtype: str) -> tuple[str, ...]:
    """The peaks that a dtype is held against, of which the higher one counts: bfloat16 can also be computed wide."""
    return tuple(PEAKS.values()) if dtype == "bfloat16" else (PEAKS[torch.float32],)
