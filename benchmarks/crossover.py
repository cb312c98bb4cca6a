"""Where blocked attention starts to pay: measures it against dense and fits the backend's constants.

    python benchmarks/crossover.py [--out FILE.json] [--quick]

The model: in units of one pair of dense attention, a blocked call costs CALL, plus GROUP_OF_TILES for each group of
like tiles, plus rows * (keys + NARROW_TILE) for each tile and head. That is linear in the three constants, so they are
fitted by least squares of the relative error to the best times. Prints them, and how much slower than the better
backend `auto` is as it stands and would be with the fit.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
from harness import Entry, conditions, interleave, progress, spread, table, write_json
from shapes import HEADS, SHAPES, make_problem

import gossamer as gs
from gossamer.kernels.backends.blocked import backend as blocked_backend
from gossamer.kernels.backends.blocked.tiles import band_tiles, block_size
from gossamer.kernels.backends.cpu import backend as cpu_backend

LENGTHS, QUICK_LENGTHS = (128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096), (128, 256)
WINDOWS, QUICK_WINDOWS = (32, 128, 512, 1024), (32,)
BACKENDS = ("dense", "blocked")
NAMES = ("CALL", "GROUP_OF_TILES", "NARROW_TILE")


@dataclass(frozen=True, kw_only=True)
class Point:
    """Seconds of both backends at one length and attention window, and what `auto` takes there."""

    n: int
    window: int
    dense: float
    blocked: float
    auto: str

    @property
    def dense_pairs(self) -> int:
        return HEADS * self.n**2

    def features(self) -> tuple[int, int, int, int]:
        """Factors of CALL, GROUP_OF_TILES and NARROW_TILE, and the pairs in tiles."""
        low, high = -self.window // 2, self.window // 2
        tiles = list(band_tiles(self.n, self.n, low, high, 0, block_size(low, high)))
        rows = HEADS * sum(t.blocks * t.rows for t in tiles)
        return 1, len(tiles), rows, HEADS * sum(t.blocks * t.rows * t.keys for t in tiles)

    def loss(self, choice: str) -> float:
        """How many times as long the choice takes as the better backend."""
        return getattr(self, choice) / min(self.dense, self.blocked)


def measure(lengths: Sequence[int], windows: Sequence[int], rounds: int, seed: int) -> list[Point]:
    rng = random.Random(seed)
    points = []
    for n, window in product(lengths, windows):
        if window >= 2 * n:
            continue
        progress(f"n = {n:,}, window {window}")
        inputs = (*make_problem(SHAPES["dense"], n, torch.float32, seed).qkv, gs.Window.from_attention_window(window))
        entries = [Entry(name, partial(gs.attend, *inputs, backend=name)) for name in BACKENDS]
        for entry in entries:
            entry.call()
        found = interleave(entries, rounds=rounds, patience=2.0, rng=rng)
        seconds = {name: spread(list(samples.values())).least for name, samples in found.items()}
        # Where there is no compiled kernel: with one, auto does not take blocked.
        with patch.object(cpu_backend, "why_no_library", lambda: "left out"):
            auto = gs.explain(*inputs).backend
        points.append(Point(n=n, window=window, auto=auto, **seconds))
    return points


def fit(points: Sequence[Point]) -> dict[str, float]:
    """The constants, and the seconds of one pair of dense attention that they are counted in."""
    pair = median(p.dense / p.dense_pairs for p in points)
    features = np.array([p.features() for p in points], dtype=float)
    seconds = np.array([p.blocked for p in points])
    known, unknown = features[:, 3] * pair, features[:, :3] * pair
    constants, *_ = np.linalg.lstsq(unknown / seconds[:, None], 1 - known / seconds, rcond=None)
    return dict(zip(NAMES, constants.tolist(), strict=True)) | {"seconds_a_pair": pair}


def fitted_choice(point: Point, constants: dict[str, float]) -> str:
    *factors, pairs = point.features()
    blocked = pairs + sum(f * constants[name] for f, name in zip(factors, NAMES, strict=True))
    return "dense" if point.dense_pairs <= blocked else "blocked"


def text(points: Sequence[Point], constants: dict[str, float]) -> str:
    rows = [
        [
            f"{p.n:,}",
            str(p.window),
            f"{1e3 * p.dense:.2f}",
            f"{1e3 * p.blocked:.2f}",
            p.auto,
            fitted_choice(p, constants),
        ]
        for p in points
    ]
    lines = [table(["n", "window", "dense, ms", "blocked, ms", "auto", "with the fit"], rows), ""]
    lines += [f"{name} = {constants[name]:,.0f} (now {getattr(blocked_backend, name):,})" for name in NAMES]
    lines.append(f"worst choice: auto {max(p.loss(p.auto) for p in points):.2f}x the better backend's time,")
    lines.append(f"with the fit {max(p.loss(fitted_choice(p, constants)) for p in points):.2f}x")
    return "\n".join(lines)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the measurements and the fit here, as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs and of the order in each round")
    args = parser.parse_args(given)
    lengths, windows = (QUICK_LENGTHS, QUICK_WINDOWS) if args.quick else (LENGTHS, WINDOWS)
    with torch.no_grad():
        points = measure(lengths, windows, 2 if args.quick else 9, args.seed)
    constants = fit(points)
    print(text(points, constants))
    if args.out is not None:
        measured = {"conditions": conditions(batch=1, heads=HEADS, seed=args.seed), "fit": constants}
        write_json(args.out, {**measured, "points": [asdict(p) for p in points]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
