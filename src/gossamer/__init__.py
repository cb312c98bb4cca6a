"""Gossamer: long, lean and fast transformers. Names are loaded when first used: importing takes no time."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gossamer.checkpoints import load, save  # type: ignore[no-redef]
    from gossamer.errors import GossamerError, InputError
    from gossamer.exporting import export
    from gossamer.generation import generate
    from gossamer.inspection import inspect
    from gossamer.kernels import attend, explain, merge
    from gossamer.patterns import Chunks, Fixed, Full, Global, Hashed, PerHead, Prefix, Sink, Strided, Window
    from gossamer.recipes import compact, distill, finetune, lengthen, prune, share, trim  # type: ignore[no-redef]
    from gossamer.recipes.receipts.comparison import compare
    from gossamer.tasks import task
    from gossamer.training.loop import train

__version__ = "0.1.0"

__all__ = [
    "Chunks",
    "Fixed",
    "Full",
    "Global",
    "GossamerError",
    "Hashed",
    "InputError",
    "PerHead",
    "Prefix",
    "Sink",
    "Strided",
    "Window",
    "__version__",
    "attend",
    "compact",
    "compare",
    "distill",
    "explain",
    "export",
    "finetune",
    "generate",
    "inspect",
    "lengthen",
    "load",
    "merge",
    "prune",
    "save",
    "share",
    "task",
    "train",
    "trim",
]

_HOMES = {
    "Chunks": "gossamer.patterns",
    "Fixed": "gossamer.patterns",
    "Full": "gossamer.patterns",
    "Global": "gossamer.patterns",
    "GossamerError": "gossamer.errors",
    "Hashed": "gossamer.patterns",
    "InputError": "gossamer.errors",
    "PerHead": "gossamer.patterns",
    "Prefix": "gossamer.patterns",
    "Sink": "gossamer.patterns",
    "Strided": "gossamer.patterns",
    "Window": "gossamer.patterns",
    "attend": "gossamer.kernels",
    "compact": "gossamer.recipes",
    "compare": "gossamer.recipes.receipts.comparison",
    "distill": "gossamer.recipes",
    "explain": "gossamer.kernels",
    "export": "gossamer.exporting",
    "finetune": "gossamer.recipes",
    "generate": "gossamer.generation",
    "inspect": "gossamer.inspection",
    "lengthen": "gossamer.recipes",
    "load": "gossamer.checkpoints",
    "merge": "gossamer.kernels",
    "prune": "gossamer.recipes",
    "save": "gossamer.checkpoints",
    "share": "gossamer.recipes",
    "task": "gossamer.tasks",
    "train": "gossamer.training.loop",
    "trim": "gossamer.recipes",
}


def __getattr__(name: str) -> "Any":
    from importlib import import_module  # here, as `typing` above: the command handles Ctrl-C once this file is read

    if name not in _HOMES:
        raise AttributeError(f"module 'gossamer' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
