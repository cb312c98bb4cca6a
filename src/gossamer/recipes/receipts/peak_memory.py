"""Peak memory of a model and one pass, in a process of its own: whatever else is loaded, elsewhere, does not count.

As a module it is that process: `python -m gossamer.recipes.receipts.peak_memory DIR BATCH TOKENS` prints the bytes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

from gossamer.errors import GossamerError

__all__ = ["peak_memory"]

_WARM_UP = 8  # tokens of a pass that loads what every pass needs


def peak_memory(directory: Path, *, batch: int = 1, tokens: int = 128) -> int:
    """Bytes that the saved model and a pass of `batch` texts of `tokens` tokens take at their peak, on one CPU thread.

    What Python and torch take without the model is taken off; without `/proc` the peak of loading counts, too. Raises
    GossamerError where the process ends before it has told.
    """
    # glibc gives every large block back at once, or freed memory would count.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "gossamer.recipes.receipts.peak_memory", str(directory), str(batch), str(tokens)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise GossamerError(f"measuring memory, a process of its own ended with status {done.returncode}: {last}")
    return int(done.stdout)


def _measure(directory: Path, batch: int, tokens: int) -> int:
    import torch

    from gossamer.checkpoints import load
    from gossamer.models.evaluation import evaluating
    from gossamer.recipes.receipts.measure import texts_of

    torch.set_num_threads(1)
    _give_back()
    before = _resident("VmRSS")
    model = load(directory, device="cpu")
    with torch.no_grad(), evaluating(model):
        model(texts_of(model, 1, min(_WARM_UP, tokens)))
        inputs = texts_of(model, batch, tokens)
        _give_back()
        _forget_peak()
        model(inputs)
    return max(_resident("VmHWM") - before, 0)


def _give_back() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def _forget_peak() -> None:
    """Let VmHWM start again from what is resident now (Linux, since 4.0)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _resident(field: str) -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(_measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
