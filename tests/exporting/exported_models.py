"""Small models with weights at which nothing is trivial, and what runs their files."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from gossamer.models import (
    Architecture,
    Attention,
    Embeddings,
    FeedForward,
    Layer,
    MaskedLM,
    Model,
    Positions,
)
from gossamer.models.decoders import decoder
from gossamer.patterns import Full, Global, Pattern, Window

LONGEST = 20_000


def drawn(architecture: Architecture) -> Model:
    torch.manual_seed(0)
    model = Model(architecture).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return model


def encoder(
    pattern: Pattern, *, layers: int = 1, length: int = 300, scale: float | None = None, **fields: Any
) -> Model:
    """An encoder as a Longformer is where it has global tokens: the first of each text."""
    is_global = pattern.sees_flags
    attention = Attention(pattern=pattern, heads=2, head_size=8, weights=0, scale=scale, global_projections=is_global)
    layer = Layer(attention=attention, feed_forward=FeedForward(width=24, weights=0))
    return drawn(
        Architecture(
            hidden_size=16, embeddings=Embeddings(vocabulary_size=40, size=16, positions=Positions(length=length)),
            layers=(layer,) * layers, global_tokens="first" if is_global else "none", **fields,
        )
    )  # fmt: skip


def writer(form: Any = "gpt2", patterns: Any = None, **fields: Any) -> Model:
    """A decoder of two layers, the first of them windowed unless other patterns are given."""
    patterns = patterns or (Window(6, 0), Full(causal=True))
    numbers = {"vocabulary_size": 50, "length": 96, "layers": 2, "hidden_size": 16, "heads": 2}
    return drawn(decoder(form=form, patterns=patterns, **{**numbers, **fields}))


def longformer(**fields: Any) -> Model:
    return encoder(Window(5, 5) | Global(), head=MaskedLM(), **fields)


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def fed(**tensors: torch.Tensor) -> dict[str, np.ndarray]:
    return {name: one.numpy() for name, one in tensors.items()}


def peak_mib(path: Path, *lengths: int) -> list[int]:
    """Peak memory in MiB of a process that reads one text of each length with the file, one process each."""
    script = (
        "import resource, sys, numpy as np, onnxruntime as ort\n"
        "options = ort.SessionOptions(); options.intra_op_num_threads = 1\n"
        "session = ort.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])\n"
        "ones = np.ones((1, int(sys.argv[2])), dtype=np.int64)\n"
        "session.run(None, {one.name: ones for one in session.get_inputs()})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    return [
        int(subprocess.run([sys.executable, "-c", script, path, str(one)], capture_output=True, check=True).stdout)
        for one in lengths
    ]
