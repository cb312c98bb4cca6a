"""Peak memory of a call, in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

MIB = 2**20


def in_child(script: Path, arguments: Sequence[str], *, gives_back: bool = True) -> Iterator[dict[str, Any]]:
    """The JSON lines that a script prints. gives_back: glibc is told to hand every large block back at once."""
    told = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    environment = {**os.environ, **(told if gives_back else {})}
    command = [sys.executable, str(script), *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in child.stdout or ():
                yield json.loads(line)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise RuntimeError(
            f"measuring memory, {script.name} {' '.join(arguments)} ended with status {child.returncode}"
        )


def extra_memory(call: Callable[[], object]) -> int:
    """Bytes that a call needs at its peak beyond what was resident before it."""
    _give_back()
    before = _resident("VmRSS")
    if _forget_peak():
        result = call()
        peak = _resident("VmHWM")
    else:  # without /proc the highest mark of the whole process serves, as lengths rise
        result = call()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    del result
    return max(peak - before, 0)


def _give_back() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _forget_peak() -> bool:
    """Let VmHWM start again from what is resident now (Linux, since 4.0)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def exponent(lengths: Sequence[int], extra: Sequence[float]) -> float:
    """Slope of log(bytes) over log(n), by least squares: 1 is linear, 2 quadratic."""
    xs, ys = [math.log(n) for n in lengths], [math.log(b) for b in extra]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
