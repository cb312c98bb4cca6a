"""What `bytes.py` trains: plans, models with equal parameters, runs of equal time."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from harness import load, progress
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

import gossamer as gs
from gossamer.models import Model
from gossamer.models.architecture import Initializer
from gossamer.models.decoders import decoder
from gossamer.patterns import Pattern
from gossamer.text import speeches, write_token_file
from gossamer.text.byte_tokenizer import byte_letters, byte_tokenizer
from gossamer.text.documents import Document
from gossamer.text.tokenizer import Tokenizer

FEW_STEPS = 12
"""By the second half of which a step's time is told: at first all tokens are hashed alike, which is slow."""
HELD_OUT_EVERY = 10
"""Every tenth document is held out, up to `held_out_bytes`."""

Patterns = Pattern | Sequence[Pattern]
"""Of all layers, or several that layers take in turn."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of everything. `seconds`: of training, for each model; of the parts that came later `few_seconds`.

    From GPT-2's initial weights no model learns within minutes which byte came before: after 200 s windows of 128 bytes
    stood at 3.3 bits, what pairs of letters tell, at any learning rate tried (docs/LOG.md, 2026-11-24).
    """

    purpose: str
    seconds: float
    few_seconds: float
    digits_seconds: float
    layers: int
    hidden_size: int
    heads: int
    length: int
    long_length: int
    rows: int
    held_out_bytes: int
    step_length: int
    step_rounds: int
    layer_lengths: tuple[int, ...]
    layer_size: int
    layer_window: int
    side: int = 32
    device: str = "cpu"
    precision: str = "float32"
    digit_images: int = 1437
    initializer: Initializer = "mimetic"

    @property
    def stride(self) -> int:
        """Near the root of the length."""
        return _root(self.length)

    @property
    def long_stride(self) -> int:
        """Near the root of the greater length."""
        return _root(self.long_length)


def _root(length: int) -> int:
    return 2 ** round(math.log2(math.sqrt(length)))


PLANS = {
    "cpu": Plan(
        purpose="measurement", seconds=200, few_seconds=150, digits_seconds=60, layers=4, hidden_size=128, heads=4,
        length=1024, long_length=4096, rows=1, held_out_bytes=300_000, step_length=12_288, step_rounds=5,
        layer_lengths=(512, 1024, 2048, 4096, 8192, 16_384), layer_size=256, layer_window=512,
    ),
    "gpu": Plan(
        purpose="measurement", seconds=1200, few_seconds=1200, digits_seconds=120, layers=12, hidden_size=512, heads=8,
        length=12_288, long_length=32_768, rows=8, held_out_bytes=1_000_000, step_length=12_288, step_rounds=10,
        layer_lengths=(1024, 2048, 4096, 8192, 16_384, 32_768, 65_536), layer_size=512, layer_window=512,
        device="cuda", precision="bfloat16",
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", seconds=0.5, few_seconds=0.1, digits_seconds=0.5, layers=2,
        hidden_size=32, heads=2, length=256, long_length=512, rows=1, held_out_bytes=4000, step_length=512,
        step_rounds=1, layer_lengths=(64, 128), layer_size=32, layer_window=16, side=4, digit_images=40,
    ),
}  # fmt: skip


class Bench:
    """A plan, a folder for its runs, and what all parts do."""

    def __init__(self, plan: Plan, folder: Path, seed: int) -> None:
        self.plan, self.folder, self.seed = plan, folder, seed
        self.rng = random.Random(seed)

    def model(self, patterns: Patterns, length: int, tokenizer: Tokenizer | None = None, **more: Any) -> Model:
        """All models have the same parameters: patterns have none. more: as in `decoder`."""
        torch.manual_seed(self.seed)
        architecture = decoder(
            vocabulary_size=257, length=length, layers=self.plan.layers, hidden_size=self.plan.hidden_size,
            heads=self.plan.heads, patterns=patterns, initializer=self.plan.initializer, **more,
        )  # fmt: skip
        return Model(architecture, tokenizer=tokenizer or byte_tokenizer())

    def trained(
        self, files: Mapping[str, Path], patterns: Patterns, *, length: int, seconds: float, rows: int | None = None,
        axes: tuple[int, ...] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """Train for so many seconds, then read what is held out. axes: of images, each of which is a row."""
        made = {"axes": axes, "tokenizer": raw_tokenizer()} if axes else {}

        def config(steps: int, name: str, held_out: bool) -> dict[str, Any]:
            return {
                "data": {"train": str(files["train"]), "pack": not axes},
                "batch": {"rows": rows or self.plan.rows, "length": length},
                "optimizer": {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 0.1},
                "schedule": {"name": "cosine", "warmup": 0.05},
                "steps": steps, "precision": self.plan.precision, "device": self.plan.device, "seed": self.seed,
                "evaluation": {"data": str(files["held out"])} if held_out else {},
                "checkpoints": {"every": 10**9, "keep": 1}, "journal": {"live": False},
                "output": str(self.folder / name),
            }  # fmt: skip

        run = len(list(self.folder.iterdir()))
        gs.train(config(FEW_STEPS, f"{run}-trial", False), model=self.model(patterns, length, **made))
        times = _step_ends(self.folder / f"{run}-trial")[FEW_STEPS // 2 - 1 :]
        steps = max(2, round(seconds / statistics.median(b - a for a, b in pairwise(times))))
        model, receipt = gs.train(config(steps, f"{run}-run", True), model=self.model(patterns, length, **made))
        means = list(dict.fromkeys(str(one.attention.pattern) for one in model.architecture.layers))
        # Of an image each token is a byte, whose letter may take two of a text.
        bits = receipt.evaluation["loss"] / math.log(2) if axes else receipt.evaluation["bits_per_byte"]
        record = {
            "means": "; ".join(means), "bits_per_byte": bits, "steps": steps, "tokens": receipt.tokens,
            "seconds": _step_ends(self.folder / f"{run}-run")[-1], "parameters": receipt.parameters,
            "load": load(),
        }  # fmt: skip
        progress(f"{record['means']}: {bits:.3f} bits after {steps} steps")
        return record

    def write_images(self, name: str, train: Sequence[bytes], held_out: Sequence[bytes]) -> dict[str, Path]:
        """Token files of images."""
        pieces = {"train": [spelt(one) for one in train], "held out": [spelt(one) for one in held_out]}
        return self.write(name, pieces, raw_tokenizer())

    def write(
        self, name: str, pieces: Mapping[str, Sequence[str]], tokenizer: Tokenizer | None = None
    ) -> dict[str, Path]:
        """Token files of texts, by the piece that they are."""
        paths = {piece: self.folder / f"{name}-{piece.replace(' ', '-')}.tokens" for piece in pieces}
        for piece, texts in pieces.items():
            documents = (Document(source=name, number=i + 1, parts=[text]) for i, text in enumerate(texts))
            write_token_file(paths[piece], documents, tokenizer or byte_tokenizer(), name="bytes")
        return paths

    def write_parted(self, name: str, documents: Sequence[str]) -> dict[str, Path]:
        """Token files of what is learnt from and of what is held out."""
        train = [one for i, one in enumerate(documents) if i % HELD_OUT_EVERY]
        return self.write(name, {"train": train, "held out": held_out(documents, self.plan.held_out_bytes)})


def step(model: Model, ids: torch.Tensor, precision: str) -> None:
    """Forward and backward; the update of the weights is the same for all."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        loss = model(ids, labels=ids).loss
    loss.backward()
    model.zero_grad(set_to_none=True)
    if ids.is_cuda:
        torch.cuda.synchronize()


def all_speeches() -> list[str]:
    """The shipped ones."""
    return [one.text for one in speeches()]


def held_out(documents: Sequence[str], most: int) -> list[str]:
    """Every tenth document, until there is enough of them."""
    found, size = [], 0
    for one in documents[::HELD_OUT_EVERY]:
        if size >= most:
            break
        found.append(one[: most - size])
        size += len(found[-1].encode())
    return found


def raw_tokenizer() -> Tokenizer:
    """Ids 0 to 255 are bytes that are no text, each spelt as one letter (`spelt`); nothing ends a document.

    So an image is a row, and each byte of it has the place that its axes say.
    """
    backend = Backend(BPE({letter: byte for byte, letter in enumerate(byte_letters())}, []))
    return Tokenizer(backend, {"tokenizer_class": "PreTrainedTokenizerFast"})


def spelt(data: bytes) -> str:
    """The letters of bytes, for `raw_tokenizer`."""
    letters = byte_letters()
    return "".join(letters[byte] for byte in data)


def _step_ends(output: Path) -> list[float]:
    """Seconds of training after each step."""
    lines = map(json.loads, (output / "journal.jsonl").read_text().splitlines())
    return [one["seconds"] for one in lines if one["split"] == "train"]
