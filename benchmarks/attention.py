"""Attention side by side with its peers: time, memory, fractions of the machine's peak, and whether the goals hold.

    python benchmarks/attention.py --budget cpu [--out FILE.json] [--plots FOLDER] [--only window,dense] [--resume]

One batch element, 12 heads of 64. Everybody gets the same numbers and, before every timing, is compared with the
pattern's definition in float64: if anybody is wrong, the run ends with status 1 and nothing of that case is kept. Then
all are timed in turn, in rounds of shuffled order, each in its fastest setting, the machine's own multiply-add peak
among them. Results are written after each case; --resume goes on where an interrupted or killed
run ended, and --again measures parts of it anew.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import encoder
import torch
from contestants import CONTESTANTS, Contestant, Prepared, prepare
from driver import Step, arguments, drive, open_store
from flex import forget_compiled
from gate import require_parity
from grid import CPU_TIME, PLANS, AnyCase, Case, GateCase, MemoryCase, families, only
from harness import Entry, interleave, spread, threads
from peak_memory import in_child
from peaks import PEAKS, peak_entries
from plots import attention_plots
from report import attention_text
from shapes import DIRECTIONS, HEAD_SIZE, HEADS, SHAPES, Problem, make_problem
from store import Records

MEMORY_SCRIPT = Path(__file__).resolve().parent / "attention_memory.py"


class Benchmark:
    """Carries out cases; each gives its records by kind, for the store."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.settings: dict[tuple[str, str, torch.dtype], str] = {}

    def measure(self, case: AnyCase) -> dict[str, Records]:
        forget_compiled()
        if isinstance(case, GateCase):
            return self.gate(case)
        if isinstance(case, MemoryCase):
            return self.memory(case)
        with threads(1) if case.clock == CPU_TIME else nullcontext():
            return self.time(case)

    def gate(self, case: GateCase) -> dict[str, Records]:
        problem = make_problem(SHAPES[case.shape], case.n, torch.float32, self.seed)
        checks = [
            asdict(check)
            for contestant in taking_part(case.names, problem)
            for setting in contestant.settings(problem.shape)
            for check in require_parity(prepare(contestant, problem, setting), whole=True)
        ]
        return {"parity": checks}

    def time(self, case: Case) -> dict[str, Records]:
        """Gate everybody, then time them, in each direction."""
        problem = make_problem(SHAPES[case.shape], case.n, getattr(torch, case.dtype), self.seed)
        everybody = [self._settled(one, problem) for one in taking_part(case.names, problem)]
        found: dict[str, Records] = {"left_out": left_out(case), "parity": [], "times": []}
        for one in everybody:
            found["parity"] += [asdict(check) for check in require_parity(one, directions=case.directions)]
        for direction in case.directions:
            calls = [one for one in everybody if one.can(direction)]
            found["times"] += self._time(case, problem, direction, calls)
        return found

    def memory(self, case: MemoryCase) -> dict[str, Records]:
        problem = make_problem(SHAPES[case.shape], min(case.lengths), torch.float32, self.seed)
        contestant = CONTESTANTS[case.name]
        able = [n for n in case.lengths if contestant.cannot(problem.shape, n, case.direction) is None]
        setting = self._settled(contestant, problem).setting
        arguments = [case.name, setting, case.direction, case.shape, "float32", str(self.seed), *map(str, able)]
        records = [
            {"name": case.name, "direction": case.direction, **one} for one in in_child(MEMORY_SCRIPT, arguments)
        ]
        return {"memory": records}

    def _settled(self, contestant: Contestant, problem: Problem) -> Prepared:
        """In its fastest setting, which is looked for where it meets a shape in a dtype for the first time."""
        key = (contestant.name, problem.shape.name, problem.dtype)
        if key not in self.settings:
            ready = {s: prepare(contestant, problem, s) for s in contestant.settings(problem.shape)}
            if len(ready) > 1:
                self.settings[key] = fastest(ready, self.rng)
                return ready[self.settings[key]]
            self.settings[key] = next(iter(ready))
        return prepare(contestant, problem, self.settings[key])

    def _time(self, case: Case, problem: Problem, direction: str, running: Sequence[Prepared]) -> Records:
        clock = time.process_time if case.clock == CPU_TIME else time.perf_counter
        entries = [Entry(one.contestant.name, partial(one.run, direction)) for one in running]
        settings = {one.contestant.name: one.setting for one in running}
        found = interleave(
            [*entries, *peak_entries()], rounds=case.rounds, patience=case.patience, rng=self.rng, clock=clock
        )
        common = {
            "shape": case.shape, "family": case.family, "n": case.n, "dtype": case.dtype, "direction": direction,
            "clock": case.clock, "threads": torch.get_num_threads(), "pairs": problem.pairs,
        }  # fmt: skip
        return [_record(common, problem, settings, *one) for one in found.items()]


def _record(
    common: dict[str, Any], problem: Problem, settings: dict[str, str], name: str, samples: dict[int, float]
) -> dict[str, Any]:
    summary = spread(list(samples.values()))
    gflop = 1 if name in PEAKS.values() else problem.useful_flops(common["direction"]) / 1e9
    timed = {"name": name, "setting": settings.get(name, "default"), "gflop": gflop, "gflops": gflop / summary.median}
    return {**common, **timed, **asdict(summary), "samples": samples}


def taking_part(names: Sequence[str], problem: Problem) -> list[Contestant]:
    """Those who can do something with the problem, forward at least."""
    found = (CONTESTANTS[name] for name in names)
    return [one for one in found if one.cannot(problem.shape, problem.n, DIRECTIONS[0]) is None]


def left_out(case: Case) -> Records:
    """Who takes no part in what, and why."""
    reasons = {
        (name, direction): CONTESTANTS[name].cannot(SHAPES[case.shape], case.n, direction)
        for name in case.names
        for direction in case.directions
    }
    return [{"name": name, "direction": direction, "why": why} for (name, direction), why in reasons.items() if why]


def fastest(ready: dict[str, Prepared], rng: random.Random) -> str:
    entries = [Entry(setting, one.forward) for setting, one in ready.items()]
    for entry in entries:
        entry.call()
    found = interleave(entries, rounds=3, patience=1.0, rng=rng)
    return min(found, key=lambda setting: spread(list(found[setting].values())).median)


def main(given: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 parity is red, 130 interrupted."""
    args = arguments(__doc__, sorted(PLANS), families(), given)
    plan, benchmark = PLANS[args.budget], Benchmark(args.seed)
    store = open_store("attention", args, batch=1, heads=HEADS, head_size=HEAD_SIZE, purpose=plan.purpose)
    steps = [Step(case.key, partial(benchmark.measure, case)) for case in only(plan.cases, args.only)]
    with TemporaryDirectory() as folder:
        if plan.encoder and not args.only:
            steps += encoder.steps(encoder.PLANS[args.budget], Path(folder), args.seed)
        status = drive(steps, store, args, attention_text)
    if args.plots is not None and status != 1:
        attention_plots(store.results, args.plots)
    return status


if __name__ == "__main__":
    sys.exit(main())
