"""What a table by distance costs: attention with and without one, and a T5 that reads 16,384 tokens.

    python benchmarks/distances.py [--only attention,t5] [--rounds 9] [--out FILE.json]

attention: 8 heads of 64, one text, T5's 257 columns; each backend computes the reference's numbers of a shorter text
first, then both calls take turns, one thread's processor time, the least of all rounds. t5: T5-small's shape (random
weights), the text's length forward and backward, full and with windows, each in a process of its own.
"""

from __future__ import annotations

import json
import random
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import (
    Entry,
    conditions,
    interleave,
    parser_of_parts,
    progress,
    spread,
    table,
    threads,
    verdict,
    write_results,
)
from peak_memory import MIB, extra_memory, in_child
from torch import Tensor

import gossamer as gs
from gossamer.families import get_family
from gossamer.models import Model
from gossamer.patterns import Pattern

PARTS = ("attention", "t5")
HEADS, SIZE, FARTHEST = 8, 64, 128
SHAPES: dict[str, tuple[Pattern, int]] = {
    "dense, 2,048": (gs.Full(), 2048),
    "window 512, 16,384": (gs.Window(256, 256), 16_384),
}
BACKENDS = {"cpu": ("float32", "bfloat16"), "blocked": ("float32",)}
CHECKED = 700
"""Tokens over which the reference is asked first."""
BOUNDS = {"float32": 1e-4, "bfloat16": 3e-2}
NEEDED = 0.9
WORDS = 32_128
T5_SMALL = {"num_layers": 6, "d_model": 512, "d_ff": 2048, "num_heads": 8, "dropout_rate": 0.0, "vocab_size": WORDS}
T5_LENGTHS = (4096, 8192, 16_384)
WINDOW, WRITTEN = 512, 64


def problem(pattern: Pattern, length: int, dtype: str, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = 1, HEADS, length, SIZE
    numbers = {
        name: torch.randn(shape, generator=generator).to(getattr(torch, dtype)) for name in ("q", "k", "v", "grad")
    }
    return numbers | {"table": torch.randn(HEADS, 2 * FARTHEST + 1, generator=generator)}


def calls(given: dict[str, Tensor], pattern: Pattern, backend: str) -> dict[str, Callable[[], Any]]:
    """By direction and whether the table is there."""
    leaves = {name: given[name].clone().requires_grad_() for name in ("q", "k", "v", "table")}

    def forward(tensors: dict[str, Tensor], has_table: bool) -> Tensor:
        bias = (tensors["table"], FARTHEST) if has_table else None
        return gs.attend(tensors["q"], tensors["k"], tensors["v"], pattern, distance_bias=bias, backend=backend)

    def both(has_table: bool) -> Sequence[Tensor]:
        wanted = [leaves[name] for name in ("q", "k", "v", *(["table"] if has_table else []))]
        return torch.autograd.grad(forward(leaves, has_table), wanted, given["grad"])

    return {
        "forward": partial(forward, given, False),
        "forward, table": partial(forward, given, True),
        "backward": partial(both, False),
        "backward, table": partial(both, True),
    }


def require_parity(pattern: Pattern, dtype: str, backend: str, seed: int) -> None:
    given = problem(pattern, CHECKED, dtype, seed)
    exact = {name: x.double() for name, x in given.items()}
    found, wanted = (
        [one["forward, table"](), *one["backward, table"]()]
        for one in (calls(given, pattern, backend), calls(exact, pattern, "reference"))
    )
    for one, right in zip(found, wanted, strict=True):
        error = float((one.double() - right).norm() / right.norm())
        if not error <= BOUNDS[dtype]:
            sys.exit(f"{backend} is {error:.1e} from the reference ({pattern}, {dtype}): nothing is timed")


def attention(args: Namespace) -> list[dict[str, Any]]:
    found = []
    for backend, dtypes in BACKENDS.items():
        for dtype in dtypes:
            for name, (pattern, length) in SHAPES.items():
                require_parity(pattern, dtype, backend, args.seed)
                every = calls(problem(pattern, length, dtype, args.seed), pattern, backend)
                entries = [Entry(which, call) for which, call in every.items()]
                with threads(1):
                    times = interleave(
                        entries, rounds=args.rounds, patience=60, rng=random.Random(args.seed), clock=time.process_time
                    )
                least = {which: spread(list(seconds.values())).least for which, seconds in times.items()}
                shares = {one: least[one] / least[f"{one}, table"] for one in ("forward", "backward")}
                found.append({"backend": backend, "dtype": dtype, "shape": name, "seconds": least, "speed": shares})
                progress(f"{backend}, {dtype}, {name}: {shares['forward']:.3f}, with backward {shares['backward']:.3f}")
    return found


def t5(args: Namespace) -> list[dict[str, Any]]:
    found = []
    for kind in ("window", "full"):
        for record in in_child(Path(__file__), ["--child", kind, "--seed", str(args.seed)]):
            found.append(record)
            progress(f"T5, {kind}, {record['length']:,}: {record['extra'] / MIB:,.0f} MiB, {record['seconds']:.1f} s")
    return found


def child(kind: str, seed: int) -> None:
    """Prints one line a length: bytes beyond the weights, gradients among them, and the seconds of one pass."""
    torch.manual_seed(seed)
    model = Model(get_family("t5").read(T5_SMALL, head="seq2seq-lm"), family="t5").train()
    if kind == "window":
        model, _ = gs.lengthen(model, to=max(T5_LENGTHS), window=WINDOW)

    def step(length: int) -> None:
        ids, labels = (torch.randint(3, WORDS, (1, n)) for n in (length, WRITTEN))
        model(ids, labels=labels).loss.backward()
        for weight in model.parameters():
            weight.grad = None

    with threads(1):
        step(64)
        for length in T5_LENGTHS:
            start = time.process_time()
            extra = extra_memory(partial(step, length))
            seconds = time.process_time() - start
            print(json.dumps({"kind": kind, "length": length, "extra": extra, "seconds": seconds}), flush=True)


def told(results: dict[str, Any]) -> str:
    parts = []
    if "attention" in results:
        rows = [
            [
                f"{one['backend']}, {one['dtype']}, {one['shape']}",
                *(f"{one['speed'][d]:.3f}" for d in ("forward", "backward")),
            ]
            for one in results["attention"]
        ]
        parts.append(table(["speed with the table, of that without", "forward", "with backward"], rows))
        of_cpu = [share for one in results["attention"] if one["backend"] == "cpu" for share in one["speed"].values()]
        parts.append(verdict(min(of_cpu) >= NEEDED, f"cpu keeps {NEEDED} of its speed (least {min(of_cpu):.3f})"))
    if "t5" in results:
        rows = [
            [f"{one['kind']}, {one['length']:,}", f"{one['extra'] / MIB:,.0f}", f"{one['seconds']:.1f}"]
            for one in results["t5"]
        ]
        parts.append(table(["T5-small's shape, forward and backward", "MiB", "seconds"], rows))
    return "\n\n".join(parts)


def main(given: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=parser_of_parts(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", choices=("window", "full"))
    args = parser.parse_args(given)
    if args.child:
        child(args.child, args.seed)
        return
    results: dict[str, Any] = {"conditions": conditions(threads_timed=1, clock="processor time")}
    for part in args.only:
        results[part] = {"attention": attention, "t5": t5}[part](args)
        write_results(results, args.out)
    print(told(results))


if __name__ == "__main__":
    main()
