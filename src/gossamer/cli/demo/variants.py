"""The same weights under another pattern or by another kernel, and the time and memory that a call takes."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from gossamer.models.model import Model
from gossamer.patterns import Pattern

__all__ = ["attending", "measured", "with_pattern"]


def with_pattern(model: Model, pattern: Pattern) -> Model:
    """A model that shares the weights of `model`, attends by `pattern` in every layer and has no global tokens."""
    layers = tuple(
        dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, pattern=pattern))
        for layer in model.architecture.layers
    )
    with torch.device("meta"):
        architecture = dataclasses.replace(model.architecture, layers=layers, global_tokens="none")
        other = Model(architecture, tokenizer=model.tokenizer)
    other.load_state_dict(model.state_dict(), assign=True)
    return other.train(model.training)


@contextmanager
def attending(backend: str | None = None) -> Iterator[set[str]]:
    """Attention by the backend named, whatever would be chosen; gives the set of those that ran meanwhile."""
    # By its module's name: the package's attribute `attend` is the function.
    attend = import_module("gossamer.kernels.attend")
    choose, ran = attend.choose, set()

    def chosen(inputs: Any, asked: str = "auto", return_lse: bool = False) -> Any:
        found = choose(inputs, backend or asked, return_lse)
        ran.add(found.backend)
        return found

    attend.choose = chosen  # type: ignore[attr-defined]
    try:
        yield ran
    finally:
        attend.choose = choose  # type: ignore[attr-defined]


def measured(call: Callable[[], object]) -> tuple[float, int]:
    """Seconds of a call, and the bytes by which the process grew at most meanwhile.

    Memory is exact on Linux; elsewhere, and where the system keeps the record from being reset, only what goes beyond
    the process's record is seen.
    """
    _give_back()
    before, start = _resident(), time.perf_counter()
    call()
    return time.perf_counter() - start, max(_peak() - before, 0)


def _give_back() -> None:
    """Return freed memory to the system and forget the highest mark."""
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _resident() -> int:
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return _peak()


def _peak() -> int:
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
