"""Storing against recomputing attention, feed-forward or both: time and memory of a training step of decoders.

    python benchmarks/recompute.py --budget cpu [--out FILE.json] [--plots FOLDER] [--only window,dense] [--resume]

Fresh decoders with dense, window and strided attention, one step each: forward, backward, AdamW. Loss and gradients of
all four ways are compared first: on a CPU they must be equal bit for bit, being the same operations on the same
numbers. Time is interleaved; memory is a child process's highest resident size during the step, less that before the
model was built (on a GPU, torch's own highest mark). The estimate of `gossamer estimate` stands beside the memory.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from driver import Step, arguments, drive, open_store
from gate import ParityError
from harness import Entry, interleave, paired_ratio, spread, table
from peak_memory import in_child
from recompute_models import PATTERNS, PLANS, WAYS, Plan, Training, architecture
from recompute_plots import recompute_plot
from store import Records
from torch import Tensor

from gossamer.training.estimate.memory import peak_memory
from gossamer.training.estimate.saved import Pass
from gossamer.training.optimization.optimizers import OptimizerSettings

MEMORY_SCRIPT = Path(__file__).resolve().parent / "recompute_memory.py"
MIB = 2**20
GPU_TOLERANCE = 1e-3
"""||again - stored|| / ||stored|| of a gradient: GPUs add up in an order of their own each time."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The four ways on one pattern and length."""

    pattern: str
    n: int

    @property
    def key(self) -> str:
        return f"{self.pattern}, n = {self.n}"


class Benchmark:
    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.seed = plan, seed
        self.rng = random.Random(seed)

    def measure(self, case: Case) -> dict[str, Records]:
        trainings = {way: Training(self.plan, case.pattern, case.n, way, self.seed) for way in WAYS}
        parity = self._gate(case, trainings)
        entries = [Entry(way, training.step) for way, training in trainings.items()]
        found = interleave(entries, rounds=self.plan.rounds, patience=120.0, rng=self.rng)
        times = [
            {"name": way, **asdict(spread(list(samples.values()))),
             "ratio": paired_ratio(samples, found["nothing"]), "samples": samples}
            for way, samples in found.items()
        ]  # fmt: skip
        trainings.clear()
        memory = self._memory(case)
        common = {"pattern": case.pattern, "n": case.n, "threads": torch.get_num_threads()}
        return {
            kind: [{**common, **record} for record in records]
            for kind, records in (("parity", parity), ("times", times), ("memory", memory))
        }

    def _gate(self, case: Case, trainings: dict[str, Training]) -> Records:
        """Loss and gradients of every way against those of storing everything."""
        losses = {way: training.gradients() for way, training in trainings.items()}
        wanted = dict(trainings["nothing"].model.named_parameters())
        tolerance = 0.0 if self.plan.device == "cpu" else GPU_TOLERANCE
        records: Records = []
        for way, training in trainings.items():
            errors = {
                name: _error(one.grad, wanted[name].grad)
                for name, one in training.model.named_parameters()
                if one.grad is not None
            }
            errors["loss"] = abs(losses[way] - losses["nothing"]) / abs(losses["nothing"])
            name, error = max(errors.items(), key=lambda item: item[1])
            if not error <= tolerance:
                raise ParityError(f"{case.key}, {way}: relative error {error:.1e} of {name}, allowed {tolerance:.1e}")
            records.append({"name": way, "what": "loss and gradients", "error": error, "tolerance": tolerance})
        for training in trainings.values():
            training.step()  # the optimizer's state is there before anything is timed
        return records

    def _memory(self, case: Case) -> Records:
        budget = next(name for name, plan in PLANS.items() if plan is self.plan)
        found = in_child(MEMORY_SCRIPT, [budget, case.pattern, str(case.n), str(self.seed), *WAYS])
        return [
            {"name": way, "extra": one["extra"], "estimate": estimated_peak(self.plan, case, way)}
            for way, one in zip(WAYS, found, strict=True)
        ]


def estimated_peak(plan: Plan, case: Case, way: str) -> int:
    """Bytes that `gossamer estimate` tells of a step."""
    kind = None if plan.autocast is None else getattr(torch, plan.autocast)
    step = Pass(rows=1, length=case.n, autocast=kind, device=plan.device)
    return peak_memory(architecture(plan, case.pattern, case.n, way), step, OptimizerSettings()).peak


def _error(found: Tensor | None, wanted: Tensor | None) -> float:
    assert found is not None
    assert wanted is not None
    return 0.0 if torch.equal(found, wanted) else float((found - wanted).norm() / wanted.norm())


def steps(plan: Plan, seed: int, patterns: Sequence[str] = PATTERNS) -> list[Step]:
    benchmark = Benchmark(plan, seed)
    cases = [Case(pattern=pattern, n=n) for n in sorted(plan.lengths) for pattern in patterns]
    return [Step(case.key, partial(benchmark.measure, case)) for case in cases]


def report(results: dict[str, Any]) -> str:
    """A line a case and way: milliseconds, how much longer than storing, memory and its estimate."""
    memory = {(m["case"], m["name"]): m for m in results["memory"]}
    rows = list(_rows(results["times"], memory))
    conditions = "\n".join(
        f"{name}: {value}" for name, value in (results["runs"][-1] if results["runs"] else {}).items()
    )
    header = [
        "computed again",
        "ms",
        "± half the quartiles' distance",
        "times storing",
        "MiB",
        "of storing",
        "estimate",
    ]
    return f"{conditions}\n\n{table(header, rows)}" if rows else conditions


def _rows(times: Records, memory: dict[tuple[str, str], dict[str, Any]]) -> Iterator[list[str]]:
    for t in times:
        found, stored = memory[t["case"], t["name"]], memory[t["case"], "nothing"]
        half = (t["upper_quartile"] - t["lower_quartile"]) / 2
        yield [
            f"{t['case']}: {t['name']}", f"{1e3 * t['median']:,.1f}", f"{1e3 * half:,.1f}", f"{t['ratio']:.2f}",
            f"{found['extra'] / MIB:,.0f}", f"{found['extra'] / stored['extra']:.2f}",
            f"{found['estimate'] / MIB:,.0f}",
        ]  # fmt: skip


def main(given: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 parity is red, 130 interrupted."""
    args = arguments(__doc__, sorted(PLANS), PATTERNS, given)
    plan = PLANS[args.budget]
    if plan.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--budget gpu needs a GPU that torch can use; there is none")
    store = open_store(
        "recompute", args, batch=1, purpose=plan.purpose, model=asdict(plan.size), autocast=plan.autocast
    )
    status = drive(steps(plan, args.seed, args.only or PATTERNS), store, args, report)
    if args.plots is not None and status != 1:
        recompute_plot(store.results, args.plots)
    return status


if __name__ == "__main__":
    sys.exit(main())
