"""One training step over a million tokens in one sequence, and a run over 131,072: memory, time a token, loss.

    python benchmarks/million.py --budget cpu|gpu|smoke [--only step,run] [--out FILE] [--plots FOLDER] [--work FOLDER]

A byte-level decoder of windows and sinks, reversible, in slices, reads the shipped speeches one behind the other.
`step`: a whole step (forward, backward, update) at each length, in a process of its own; told are seconds and the peak
of resident memory. `run`: steps over different 131,072 bytes, killed and resumed; told is the loss. Run it on a machine
that does nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from harness import arguments, conditions, load, progress, read_arguments, table, verdict, write_results
from million_plots import million_plots

from gossamer.models import Model
from gossamer.models.architecture import Architecture
from gossamer.models.decoders import decoder
from gossamer.patterns import Pattern, Sink, Window
from gossamer.text import speeches
from gossamer.training.journal.journal import FILE, read_journal

PARTS = ("step", "run")
MOST_BYTES = 12e9
"""The goal of the longest step."""
FLAT_FROM, FLAT = 16_384, 1.25
"""From this length on the cost of a token may differ by so much."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The model of all steps, their lengths, and the run: `run_steps` over `run_length` tokens, by a narrower model."""

    purpose: str
    lengths: tuple[int, ...]
    run_length: int
    run_steps: int
    layers: int = 6
    hidden_size: int = 256
    run_hidden_size: int = 128
    heads: int = 4
    window: int = 512
    sinks: int = 4
    slice_length: int = 8192
    device: str = "cpu"

    @property
    def pattern(self) -> Pattern:
        """A token and those before it, `window` in all, and the first ones."""
        return Window(self.window - 1, 0) | Sink(self.sinks)


PLANS = {
    "cpu": Plan(
        purpose="measurement", lengths=(4096, 16_384, 65_536, 262_144, 1_048_576), run_length=131_072, run_steps=60,
    ),
    "gpu": Plan(
        purpose="measurement", lengths=(4096, 16_384, 65_536, 262_144, 1_048_576), run_length=131_072, run_steps=600,
        run_hidden_size=256, device="cuda",
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", lengths=(64, 256), run_length=128, run_steps=4, layers=2,
        hidden_size=16, run_hidden_size=16, heads=2, window=16, sinks=2, slice_length=32,
    ),
}  # fmt: skip


def architecture(plan: Plan, length: int, hidden_size: int) -> Architecture:
    """Of as many bytes as there are, without a table of positions: windows tell what is near."""
    return decoder(
        vocabulary_size=256, length=length, layers=plan.layers, hidden_size=hidden_size, heads=plan.heads,
        patterns=plan.pattern, reversible="mean", slice_length=plan.slice_length, positions="none",
    )  # fmt: skip


def one_step(plan: Plan, length: int, seed: int) -> dict[str, Any]:
    """Seconds of a step's parts, after one of a slice that is not counted, and the most memory that was resident."""
    torch.manual_seed(seed)
    model = Model(architecture(plan, length, plan.hidden_size)).to(plan.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    text = "\n".join(one.text for one in speeches()).encode()
    text = text * (1 + length // len(text))
    ids = torch.frombuffer(bytearray(text[:length]), dtype=torch.uint8).long()[None].to(plan.device)

    def step(tokens: torch.Tensor) -> tuple[float, list[float]]:
        times = [_now(plan.device)]
        loss = model(tokens, labels=tokens).loss
        times.append(_now(plan.device))
        loss.backward()
        times.append(_now(plan.device))
        optimizer.step()
        optimizer.zero_grad()
        times.append(_now(plan.device))
        return float(loss.detach()), [after - before for before, after in pairwise(times)]

    step(ids[:, : min(length, 2 * plan.slice_length)])
    base = _peak(plan.device)
    loss, parts = step(ids)
    forward, backward, update = parts
    return {
        "length": length, "seconds": sum(parts), "forward": forward, "backward": backward, "update": update,
        "microseconds a token": 1e6 * sum(parts) / length, "peak": _peak(plan.device), "peak of two slices": base,
        "loss": loss, "parameters": sum(one.numel() for one in model.parameters()),
    }  # fmt: skip


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak(device: str) -> int:
    """Bytes: of the whole process, or of what torch holds on the card."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def steps(budget: str, plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """A record a length, each of a process of its own."""
    for length in plan.lengths:
        progress(f"a step of {length:,} tokens")
        command = [sys.executable, __file__, "--budget", budget, "--seed", str(seed), "--child", str(length)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"a step of {length:,} tokens ended with {done.returncode}: {done.stderr[-2000:]}")
        yield json.loads(done.stdout.splitlines()[-1])


def run_config(plan: Plan, folder: Path, seed: int) -> dict[str, Any]:
    """The run as `gossamer train` takes it."""
    text = folder / "speeches.txt"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("\n".join(one.text for one in speeches()), encoding="utf-8")
    return {
        "model": {
            "decoder": {
                "layers": plan.layers, "hidden_size": plan.run_hidden_size, "heads": plan.heads,
                "length": plan.run_length, "pattern": plan.pattern.to_dict(), "positions": "none",
                "reversible": "mean", "slice_length": plan.slice_length,
            }
        },
        "data": {"train": str(text), "split": "file"},
        "batch": {"rows": 1, "length": plan.run_length},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "schedule": {"warmup": max(1, plan.run_steps // 10)},
        "steps": plan.run_steps,
        "checkpoints": {"every": max(1, plan.run_steps // 6), "keep": 1},
        "journal": {"live": False},
        "seed": seed,
        "output": str(folder / "run"),
    }  # fmt: skip


def run(budget: str, plan: Plan, work: Path, seed: int) -> dict[str, Any]:
    """The run, whose process is killed once after its second checkpoint; losses, step by step."""
    folder = work / f"million-{budget}-{seed}"
    config = run_config(plan, folder, seed)
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "gossamer", "train", str(path)]
    killed_at = None
    if not (folder / "run" / "receipt.json").exists():
        progress(f"{plan.run_steps} steps of {plan.run_length:,} tokens")
        first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while first.poll() is None:
            done = _steps_done(folder)
            if done > 2 * config["checkpoints"]["every"]:
                os.kill(first.pid, signal.SIGKILL)
                killed_at = done
                progress(f"killed at step {done}")
                break
            time.sleep(0.05)
        first.wait()
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        if again.returncode:
            raise RuntimeError(f"the run ended with {again.returncode}: {again.stderr[-2000:]}")
    lines = [one for one in read_journal(folder / "run" / FILE) if one["split"] == "train"]
    return {
        "steps": len(lines), "killed at step": killed_at, "losses": [one["loss"] for one in lines],
        "tokens": plan.run_length, "seconds a step": statistics.median(_between(lines)),
    }  # fmt: skip


def _steps_done(folder: Path) -> int:
    journal = folder / "run" / FILE
    return sum(one["split"] == "train" for one in read_journal(journal)) if journal.exists() else 0


def _between(lines: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds from step to step."""
    clock = [one["seconds"] for one in lines]
    return [after - before for before, after in pairwise(clock) if after > before]


def verdicts(results: dict[str, Any]) -> list[str]:
    """The goals, and whether they are reached."""
    told = []
    found = results["steps"]
    if found:
        longest = found[-1]
        told.append(
            verdict(
                longest["peak"] < MOST_BYTES,
                f"a step of {longest['length']:,} tokens in {longest['peak'] / 1e9:.2f} GB (goal: under "
                f"{MOST_BYTES / 1e9:.0f}) and {longest['seconds'] / 60:.1f} minutes",
            )
        )
        costs = [one["microseconds a token"] for one in found if one["length"] >= FLAT_FROM]
        if len(costs) > 1:
            apart = max(costs) / min(costs)
            told.append(
                verdict(
                    apart <= FLAT,
                    f"a token costs {min(costs):.0f} to {max(costs):.0f} us from {FLAT_FROM:,} tokens on, "
                    f"{100 * (apart - 1):.0f}% apart (goal: {100 * (FLAT - 1):.0f}%)",
                )
            )
    if results["run"]:
        one = results["run"]
        few = max(1, len(one["losses"]) // 10)
        first, last = (sum(part) / few for part in (one["losses"][:few], one["losses"][-few:]))
        told.append(verdict(last < first, f"the loss of {one['steps']} steps falls from {first:.3f} to {last:.3f}"))
        killed = one["killed at step"]
        told.append(verdict(killed is not None, f"killed at step {killed} and resumed to the end"))
    return told


def report(results: dict[str, Any]) -> str:
    """Conditions, the table of steps, verdicts."""
    told = "\n".join(f"{name}: {value}" for name, value in results["conditions"].items())
    header = ["tokens", "seconds", "forward", "backward", "us a token", "peak GB", "loss"]
    rows = [
        [f"{one['length']:,}", f"{one['seconds']:.2f}", f"{one['forward']:.2f}", f"{one['backward']:.2f}",
         f"{one['microseconds a token']:.0f}", f"{one['peak'] / 1e9:.2f}", f"{one['loss']:.3f}"]
        for one in results["steps"]
    ]  # fmt: skip
    return "\n\n".join([told, *([table(header, rows)] if rows else []), "\n".join(verdicts(results))])


def main(given: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__, PLANS, "million", PARTS)
    parser.add_argument("--child", type=int, help=SUPPRESS)
    args = read_arguments(parser, given)
    plan = PLANS[args.budget]
    if args.child is not None:
        print(json.dumps(one_step(plan, args.child, args.seed)))
        return 0
    results: dict[str, Any] = {
        "benchmark": "million", "complete": False, "steps": [], "run": None,
        "conditions": conditions(seed=args.seed, budget=args.budget, **asdict(plan)),
    }  # fmt: skip
    if args.out is not None and args.out.exists() and set(args.only) != set(PARTS):
        old = json.loads(args.out.read_text())
        results |= {"steps": old["steps"], "run": old["run"]}
    if "step" in args.only:
        results["steps"] = []
        for record in steps(args.budget, plan, args.seed):
            results["steps"].append(record)
            write_results(results, args.out)
    if "run" in args.only:
        results["run"] = run(args.budget, plan, args.work, args.seed)
    results["complete"] = bool(results["steps"] and results["run"])
    results["conditions"]["load_at_end"] = load()
    write_results(results, args.out)
    print(report(results))
    if args.plots is not None:
        million_plots(results, args.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
