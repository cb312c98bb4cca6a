"""What cannot be exported, said in one line before any work."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from gossamer.errors import InputError, quote
from gossamer.kernels.pieces import compile_pattern
from gossamer.kernels.rings import has_ring
from gossamer.models import Attention, Model, RelativePositions
from gossamer.models.model_argument import check_one_text
from gossamer.patterns import Full
from gossamer.patterns.head_groups import groups_of

__all__ = ["FORMATS", "check_exportable", "check_packages"]

FORMATS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}
"""The formats, and the packages that each needs beside torch."""
_RUNTIME = "ONNX Runtime, which checks the file, computes float32 on a CPU"


def check_packages(form: str) -> None:
    """Raises InputError for an unknown format, and for one whose packages are not installed."""
    if form not in FORMATS:
        raise InputError(f"format is {quote(form)}; it must be one of {', '.join(FORMATS)}")
    missing = [name for name in FORMATS[form] if find_spec(name) is None]
    if missing:
        raise InputError(
            f"format is {quote(form)}, which needs {', '.join(missing)}; install it: pip install 'gossamer[export]'"
        )


def check_exportable(model: Model, form: str) -> None:
    """Raises InputError for a model that no graph is made of, and says why and what to do."""
    check_one_text(model, "gossamer.export")
    architecture = model.architecture
    if model.split is not None:
        raise InputError("the model's sequences are split over processes; load it again to export it")
    for i, layer in enumerate(architecture.layers):
        why = _why_not(layer.attention, architecture.is_decoder)
        if why is not None:
            raise InputError(f"layer {i} {why}; take a model of full attention, windows or global tokens")
    _check_numbers(model, form)


def _why_not(attention: Attention, cached: bool) -> str | None:
    parts = [part for part, _ in groups_of(attention.pattern, attention.heads)]
    if any(one.hashes is not None for one in parts):
        return f"has the pattern '{attention.pattern}', whose buckets are not exported"
    if any(map(has_ring, parts)):
        return f"has the pattern '{attention.pattern}', whose ring is not exported"
    if attention.heads and not cached and compile_pattern(attention.pattern, attention.heads) is None:
        return f"has the pattern '{attention.pattern}', which is computed pair by pair and is not exported"
    if isinstance(attention.distance_bias, RelativePositions):
        return "compares states of distances (DeBERTa), which are not exported"
    if attention.distance_bias is not None and (cached or attention.pattern != Full()):
        return f"adds numbers by distance under '{attention.pattern}', which an exported graph does not"
    if cached and any(one.prefix for one in parts):
        return f"has the pattern '{attention.pattern}', whose prefix is read at once, not in steps"
    return None


def _check_numbers(model: Model, form: str) -> None:
    kinds = {str(one.dtype).removeprefix("torch.") for one in model.parameters()}
    devices = {one.device.type for one in model.parameters()}
    if devices != {"cpu"}:
        raise InputError(f"the model is on {', '.join(sorted(devices))}; load it with device='cpu' to export it")
    if form == "onnx" and kinds != {"float32"}:
        raise InputError(f"the model is in {', '.join(sorted(kinds))}; {_RUNTIME}: load it with dtype='float32'")
    if len(kinds) > 1:
        raise InputError(f"the model is in {' and '.join(sorted(kinds))}; load it with one dtype to export it")
    if not all(torch.isfinite(one).all() for one in model.parameters()):
        raise InputError("the model's weights hold NaN or infinity; go back to sound weights")
