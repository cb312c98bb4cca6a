"""Peak memory of one contestant in a process of its own.

As a script, `peak_memory.py NAME SETTING DIRECTION DTYPE SEED N [N ...]`, it prints one JSON line a length: the most
resident memory during a call, beyond what was resident before it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from contestants import CONTESTANTS, Prepared, make_problem, prepare

MIB = 2**20
WARM_UP = 512


def peak_memory(
    name: str, setting: str, direction: str, dtype: torch.dtype, lengths: Sequence[int], seed: int
) -> Iterator[dict[str, float | int]]:
    """One record a length, from one child process. glibc is told to hand every large block back at once."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    arguments = [name, setting, direction, str(dtype).removeprefix("torch."), str(seed), *map(str, lengths)]
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
        try:
            for line in child.stdout or ():
                yield json.loads(line)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise RuntimeError(f"measuring the memory of {name} ended with status {child.returncode}")


def extra_memory(prepared: Prepared, direction: str) -> int:
    """Bytes that a call needs at its peak beyond what was resident before it."""
    _give_back()
    before = _resident("VmRSS")
    if _forget_peak():
        result = prepared.run(direction)
        peak = _resident("VmHWM")
    else:  # without /proc the highest mark of the whole process serves, as lengths rise
        result = prepared.run(direction)
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


def main(name: str, setting: str, direction: str, dtype: str, seed: str, *lengths: str) -> None:
    contestant, precision = CONTESTANTS[name], getattr(torch, dtype)
    prepare(contestant, make_problem(WARM_UP, precision, int(seed)), setting).run(direction)
    for n in map(int, lengths):
        prepared = prepare(contestant, make_problem(n, precision, int(seed)), setting)
        if contestant.compiles:
            prepared.run(direction)
        held = contestant.held(n, precision, setting)
        extra = extra_memory(prepared, direction)
        print(json.dumps({"n": n, "extra": extra, "held": held}), flush=True)
        del prepared


if __name__ == "__main__":
    main(*sys.argv[1:])
