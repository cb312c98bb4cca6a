"""Where a model computes: the one place that knows the names of devices, and which of them are there."""

from __future__ import annotations

import importlib.util

import torch

from gossamer.errors import InputError, quote

__all__ = ["DEVICES", "devices_there", "find_device"]

DEVICES = ("cpu", "cuda", "mps", "xla")
"""Of one's own: "auto" is the first accelerator that is there, else the CPU. xla: TPUs and others, by torch_xla."""


def devices_there() -> list[str]:
    """The kinds of devices that this process can compute on."""
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xla": _has_xla(),
    }
    return [name for name in DEVICES if there[name]]


def _has_xla() -> bool:
    try:
        return importlib.util.find_spec("torch_xla") is not None
    except ValueError:  # imported by hand, without a specification
        return False


def find_device(device: str | torch.device | None) -> torch.device | None:
    """The device of this name ("cpu", "cuda", "cuda:1", "mps", "xla", "auto"), with its number; None for None.

    Raises InputError for one that is not there, and for a name that is none.
    """
    if device is None:
        return None
    there = devices_there()
    if isinstance(device, str) and device == "auto":
        device = next((name for name in ("cuda", "mps", "xla") if name in there), "cpu")
    if str(device).partition(":")[0] == "xla":
        return _xla(str(device))
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as problem:
        why = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
        raise InputError(
            f"device is {quote(device)}, which is not there ({why}); this machine has {', '.join(there)}"
        ) from None


def _xla(name: str) -> torch.device:
    """Importing torch_xla is what makes the device known to torch."""
    try:
        import torch_xla  # type: ignore[import-not-found]
    except ImportError as problem:
        raise InputError(
            f"device is {quote(name)}, which is not there ({problem}): install torch_xla of torch's own version, and "
            "set PJRT_DEVICE to TPU or CPU"
        ) from None
    number = name.partition(":")[2]
    try:
        found = torch_xla.device(int(number)) if number else torch_xla.device()
    except (RuntimeError, ValueError, IndexError) as problem:
        raise InputError(f"device is {quote(name)}, which torch_xla does not have ({problem}); try 'xla'") from None
    return torch.device(found)
