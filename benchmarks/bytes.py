"""Byte-level language models under five patterns of attention: equal parameters, equal time, held-out bits per byte.

    python benchmarks/bytes.py --budget cpu|gpu|smoke [--out FILE.json] [--plots FOLDER] [--only corpora,steps,digits]

On the shipped speeches and on 6 MB of raw Wikipedia XML, as Child et al. 2019 (section 7) did on enwik8; then the time
of a training step at 12,288 tokens, and images of digits, where the strided pattern should win. Each model trains for
the same seconds with the same settings; how many steps that is, is measured before. What the paper found is checked,
and the answer printed, whichever it is. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from bytes_plots import bytes_plots
from bytes_text import bytes_text
from harness import Entry, conditions, interleave, load, progress, spread, write_json
from material import digits, wikipedia

import gossamer as gs
from gossamer.models import Model
from gossamer.models.architecture import Initializer
from gossamer.models.decoders import decoder
from gossamer.patterns import Fixed, Full, Pattern, PerHead, Strided, Window
from gossamer.text import speeches, write_token_file
from gossamer.text.byte_tokenizer import byte_tokenizer
from gossamer.text.documents import Document

PARTS = ("corpora", "steps", "digits")
FEW_STEPS = 6
"""By which a step's time is told."""
HELD_OUT_EVERY = 10
"""Every tenth document is held out, up to `held_out_bytes`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much of everything. `seconds`: of training, for each model and corpus.

    From GPT-2's initial weights no model learns within minutes which byte came before: after 200 s windows of 128 bytes
    stood at 3.3 bits, what pairs of letters tell, at any learning rate tried (docs/LOG.md, 2026-11-24).
    """

    purpose: str
    seconds: float
    digits_seconds: float
    layers: int
    hidden_size: int
    heads: int
    length: int
    rows: int
    held_out_bytes: int
    step_length: int
    step_rounds: int
    device: str = "cpu"
    precision: str = "float32"
    digit_images: int = 1437
    initializer: Initializer = "mimetic"

    def patterns(self) -> dict[str, Pattern]:
        """All models have the same parameters: patterns have none. The stride is near the root of the length."""
        stride = 2 ** round(math.log2(math.sqrt(self.length)))
        near, far = Window(stride - 1, 0), Window(stride - 1, 0, dilation=max(1, self.length // (2 * stride)))
        half = self.heads // 2
        return {
            "dense": Full(causal=True),
            "strided": Strided(stride),
            "fixed": Fixed(stride, max(1, stride // 8)),
            "window": Window(2 * stride - 1, 0),
            "dilated mixture": PerHead((near, half), (far, self.heads - half)),
        }


PLANS = {
    "cpu": Plan(
        purpose="measurement", seconds=200, digits_seconds=60, layers=4, hidden_size=128, heads=4, length=1024, rows=1,
        held_out_bytes=300_000, step_length=12_288, step_rounds=5,
    ),
    "gpu": Plan(
        purpose="measurement", seconds=1200, digits_seconds=120, layers=12, hidden_size=512, heads=8, length=12_288,
        rows=8, held_out_bytes=1_000_000, step_length=12_288, step_rounds=10, device="cuda", precision="bfloat16",
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", seconds=0.5, digits_seconds=0.5, layers=2, hidden_size=32,
        heads=2, length=256, rows=1, held_out_bytes=4000, step_length=512, step_rounds=1, digit_images=40,
    ),
}  # fmt: skip


class Bench:
    """The parts of one run; each gives the records of its key."""

    def __init__(self, plan: Plan, folder: Path, seed: int) -> None:
        self.plan, self.folder, self.seed = plan, folder, seed
        self.rng = random.Random(seed)

    def corpora(self) -> Iterator[dict[str, Any]]:
        for name, documents in (("speeches", _speeches()), ("wikipedia", _pages())):
            held_out = _held_out(documents, self.plan.held_out_bytes)
            train = [one for i, one in enumerate(documents) if i % HELD_OUT_EVERY]
            files = self._write(name, {"train": train, "held out": held_out})
            text = b"".join(one.encode() for one in held_out)
            bar = 8 * len(gzip.compress(text, 9)) / len(text)
            for pattern_name, pattern in self.rng.sample(list(self.plan.patterns().items()), 5):
                record = self._trained(
                    files, pattern, self.plan.length, self.plan.rows, self.plan.seconds, self.plan.heads
                )
                yield {"corpus": name, "pattern": pattern_name, "means": str(pattern), "gzip": bar, **record}

    def digits(self) -> Iterator[dict[str, Any]]:
        """Images as 64 bytes; positions are rows and columns, the stride is a row."""
        images = digits()
        count = min(self.plan.digit_images, len(images) * 4 // 5)
        pieces = {"train": images[:count], "held out": images[count : count + count // 4]}
        files = self._write("digits", {name: [one.decode() for one in several] for name, several in pieces.items()})
        for name, pattern in {"dense": Full(causal=True), "strided": Strided(8), "fixed": Fixed(8, 1)}.items():
            record = self._trained(
                files, pattern, 64, 32, self.plan.digits_seconds, self.plan.heads, axes=(8, 8), pack=False
            )
            yield {"corpus": "digits", "pattern": name, "means": str(pattern), **record}

    def steps(self) -> Iterator[dict[str, Any]]:
        """A training step of each kind in turn, at the paper's 12,288 tokens."""
        n = self.plan.step_length
        stride = 128 if n >= 12_288 else 16
        ids = torch.randint(0, 256, (1, n), generator=torch.Generator().manual_seed(self.seed)).to(self.plan.device)
        kinds = {"dense": Full(causal=True), "fixed": Fixed(stride, stride // 8), "strided": Strided(stride)}
        entries = []
        for name, pattern in kinds.items():
            model = self._model(pattern, n, self.plan.heads).to(self.plan.device).train()
            entries.append(Entry(name, partial(_step, model, ids, self.plan.precision)))
            _step(model, ids, self.plan.precision)
        found = interleave(entries, rounds=self.plan.step_rounds, patience=120.0, rng=self.rng)
        for name, samples in found.items():
            seconds = list(samples.values())
            yield {"pattern": name, "means": str(kinds[name]), "n": n, **vars(spread(seconds)), "samples": samples}

    def _model(self, pattern: Pattern, length: int, heads: int, **more: Any) -> Model:
        torch.manual_seed(self.seed)
        size = self.plan.hidden_size
        architecture = decoder(
            vocabulary_size=257, length=length, layers=self.plan.layers, hidden_size=size, heads=heads,
            patterns=pattern, initializer=self.plan.initializer, **more,
        )  # fmt: skip
        return Model(architecture, tokenizer=byte_tokenizer())

    def _trained(
        self, files: Mapping[str, Path], pattern: Pattern, length: int, rows: int, seconds: float, heads: int,
        *, pack: bool = True, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Train for so many seconds, then read the held-out text."""

        def config(steps: int, name: str, held_out: bool) -> dict[str, Any]:
            return {
                "data": {"train": str(files["train"]), "pack": pack},
                "batch": {"rows": rows, "length": length},
                "optimizer": {"name": "adamw", "learning_rate": 2e-3, "weight_decay": 0.1},
                "schedule": {"name": "cosine", "warmup": 0.05},
                "steps": steps, "precision": self.plan.precision, "device": self.plan.device, "seed": self.seed,
                "evaluation": {"data": str(files["held out"])} if held_out else {},
                "checkpoints": {"every": 10**9, "keep": 1}, "journal": {"live": False},
                "output": str(self.folder / name),
            }  # fmt: skip

        run = len(list(self.folder.iterdir()))
        gs.train(config(FEW_STEPS, f"{run}-trial", False), model=self._model(pattern, length, heads, **more))
        times = _step_ends(self.folder / f"{run}-trial")
        steps = max(2, round(seconds / statistics.median(b - a for a, b in pairwise(times))))
        model = self._model(pattern, length, heads, **more)
        model, receipt = gs.train(config(steps, f"{run}-run", True), model=model)
        record = {
            "bits_per_byte": receipt.evaluation["bits_per_byte"], "steps": steps, "tokens": receipt.tokens,
            "seconds": _step_ends(self.folder / f"{run}-run")[-1], "parameters": receipt.parameters,
            "load": load(),
        }  # fmt: skip
        progress(
            f"{pattern}: {record['bits_per_byte']:.3f} bits per byte after {steps} steps, {record['seconds']:.0f} s"
        )
        return record

    def _write(self, name: str, pieces: Mapping[str, Sequence[str]]) -> dict[str, Path]:
        paths = {piece: self.folder / f"{name}-{piece.replace(' ', '-')}.tokens" for piece in pieces}
        for piece, texts in pieces.items():
            documents = (Document(source=name, number=i + 1, parts=[text]) for i, text in enumerate(texts))
            write_token_file(paths[piece], documents, byte_tokenizer(), name="bytes")
        return paths


def _step_ends(output: Path) -> list[float]:
    """Seconds of training after each step."""
    lines = map(json.loads, (output / "journal.jsonl").read_text().splitlines())
    return [one["seconds"] for one in lines if one["split"] == "train"]


def _step(model: Model, ids: torch.Tensor, precision: str) -> None:
    """Forward and backward; the update of the weights is the same for all."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        loss = model(ids, labels=ids).loss
    loss.backward()
    model.zero_grad(set_to_none=True)
    if ids.is_cuda:
        torch.cuda.synchronize()


def _speeches() -> list[str]:
    return [one.text for one in speeches()]


def _pages() -> list[str]:
    """Each page with its markup, as it lies in the dump."""
    text = wikipedia().decode()
    return [page + "</page>" for page in text.split("</page>")[:-1]]


def _held_out(documents: Sequence[str], most: int) -> list[str]:
    """Every tenth document, until there is enough of them."""
    found, size = [], 0
    for one in documents[::HELD_OUT_EVERY]:
        if size >= most:
            break
        found.append(one[: most - size])
        size += len(found[-1].encode())
    return found


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=sorted(PLANS), default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(given)
    unknown = sorted(set(args.only) - set(PARTS))
    if unknown:
        parser.error(f"--only is {','.join(unknown)}; it must be some of {','.join(PARTS)}")
    plan = PLANS[args.budget]
    results: dict[str, Any] = {
        "benchmark": "bytes",
        "run": conditions(budget=args.budget, seed=args.seed, plan=vars(plan)),
    }
    with TemporaryDirectory() as folder:
        bench = Bench(plan, Path(folder), args.seed)
        for part in args.only:
            results[part] = []
            for record in getattr(bench, part)():
                results[part].append(record)
                if args.out is not None:
                    write_json(args.out, results)
    results["run"]["load_at_end"] = load()
    if args.out is not None:
        write_json(args.out, results)
    if args.plots is not None:
        bytes_plots(results, args.plots)
    print(bytes_text(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
