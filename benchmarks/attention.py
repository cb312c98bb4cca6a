"""Window attention side by side with its peers: time, memory, and whether Gossamer's goals hold.

    python benchmarks/attention.py --budget cpu [--out FILE.json] [--plot FILE.svg] [--quick]

One batch element, 12 heads of 64, Longformer's attention window of 512 (513 keys a query). Everybody gets the same
numbers and is first compared with the float64 reference: if anybody is wrong, nothing is reported and the exit status
is 1. Then all are timed in turn, in rounds of shuffled order, each with its best setting. An interrupt (Ctrl-C) writes
what has been measured so far.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from contestants import (
    ATTENTION_WINDOW,
    AUTO,
    BLOCKED,
    CONTESTANTS,
    CPU,
    DENSE,
    FLEX,
    HEAD_SIZE,
    HEADS,
    LONGFORMER,
    SDPA,
    Contestant,
    Prepared,
    forget_compiled,
    layers,
    make_problem,
    prepare,
    useful_flops,
)  # fmt: skip
from gate import ParityError, require_layer_parity, require_parity
from harness import Entry, conditions, interleave, load, progress, spread, threads, write_json
from peak_memory import peak_memory
from report import plot, text
from verdicts import DIRECTIONS, verdicts

AWKWARD = 777


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and how often."""

    purpose: str
    lengths: tuple[int, ...]
    rounds: int
    patience: float
    names: tuple[str, ...] = tuple(CONTESTANTS)
    settle_at: int = 2048
    half_lengths: tuple[int, ...] = ()
    one_thread_lengths: tuple[int, ...] = ()
    layer_lengths: tuple[int, ...] = ()
    memory: dict[str, tuple[str, ...]] = field(default_factory=dict)
    memory_lengths: tuple[int, ...] = ()


PLANS = {
    "cpu": Plan(
        purpose="measurement",
        lengths=(512, 1024, 2048, 4096, 8192, 16384),
        rounds=11,
        patience=6.0,
        half_lengths=(1024, 4096),
        one_thread_lengths=(1024, 4096),
        layer_lengths=(4096,),
        memory={
            "forward": (CPU, BLOCKED, SDPA, DENSE, FLEX, LONGFORMER),
            "forward + backward": (CPU, BLOCKED, SDPA, LONGFORMER),
        },
        memory_lengths=(2048, 4096, 8192, 16384),
    )
}
QUICK = Plan(
    purpose="smoke test: its times mean nothing",
    lengths=(256, 512),
    rounds=2,
    patience=1.0,
    names=(AUTO, CPU, BLOCKED, SDPA, DENSE, LONGFORMER),
    settle_at=512,
    half_lengths=(256,),
    one_thread_lengths=(256,),
    layer_lengths=(512,),
    memory={"forward": (BLOCKED,)},
    memory_lengths=(512, 1024),
)


class Benchmark:
    """One run of a plan: `results` grows as it goes and is worth writing at any moment."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.seed = seed
        self.rng = random.Random(seed)
        self.settings: dict[str, str] = {}
        self.results: dict[str, Any] = {
            "benchmark": "attention",
            "complete": False,
            "conditions": conditions(
                batch=1,
                heads=HEADS,
                head_size=HEAD_SIZE,
                attention_window=ATTENTION_WINDOW,
                seed=seed,
                purpose=plan.purpose,
            ),
            "plan": asdict(plan),
            "settings": self.settings,
            "parity": [],
            "times": [],
            "memory": [],
        }

    def run(self) -> None:
        self.check_awkward_length()
        self.settle()
        for n in self.plan.lengths:
            self.measure(n, torch.float32)
        for n in self.plan.layer_lengths:
            self.measure_layers(n)
        for n in self.plan.one_thread_lengths:
            with threads(1):
                self.measure(n, torch.float32, section="one thread", clock=time.process_time, rounds=3)
        for n in self.plan.half_lengths:
            self.measure(n, torch.bfloat16, directions=DIRECTIONS[:1])
        for direction, names in self.plan.memory.items():
            for name in names:
                self.measure_memory(CONTESTANTS[name], direction)
        self.results["complete"] = True

    def check_awkward_length(self) -> None:
        """Everybody, in every setting, at a length that is a multiple of nothing."""
        forget_compiled()
        for contestant in self._contestants(AWKWARD):
            for setting in contestant.settings:
                progress(f"parity at n = {AWKWARD}: {contestant.name} ({setting})")
                self._gate(prepare(contestant, make_problem(AWKWARD, torch.float32, self.seed), setting), whole=True)

    def settle(self) -> None:
        """Find everybody's fastest setting, at one length."""
        forget_compiled()
        n = self.plan.settle_at
        problem = make_problem(n, torch.float32, self.seed)
        for contestant in self._contestants(n):
            entries = [Entry(s, prepare(contestant, problem, s).forward) for s in contestant.settings]
            best = entries[0].name
            if len(entries) > 1:
                for entry in entries:
                    entry.call()
                found = interleave(entries, rounds=5, patience=2.0, rng=self.rng)
                best = min(found, key=lambda s: spread(list(found[s].values())).median)
                progress(f"fastest setting at n = {n:,}: {contestant.name} ({best})")
            self.settings[contestant.name] = best

    def measure(
        self,
        n: int,
        dtype: torch.dtype,
        *,
        section: str = "wall",
        clock: Callable[[], float] = time.perf_counter,
        rounds: int | None = None,
        directions: Sequence[str] = DIRECTIONS,
    ) -> None:
        """Gate everybody at this length, then time them."""
        forget_compiled()
        problem = make_problem(n, dtype, self.seed)
        everybody = [prepare(one, problem, self.settings[one.name]) for one in self._contestants(n)]
        for prepared in everybody:
            progress(f"parity at n = {n:,}, {_name(dtype)}, {section}: {prepared.contestant.name}")
            self._gate(prepared, directions=directions)
        for direction in directions:
            progress(f"timing n = {n:,}, {_name(dtype)}, {section}: {direction}")
            running = [one for one in everybody if direction == DIRECTIONS[0] or one.contestant.has_backward]
            calls = {one.contestant.name: _call(one, direction) for one in running}
            self._time(calls, n, dtype, direction, section, clock, rounds)

    def measure_layers(self, n: int) -> None:
        """Both libraries' whole self-attention, projections included, with the same weights."""
        hidden = torch.randn(1, n, HEADS * HEAD_SIZE, generator=torch.Generator().manual_seed(self.seed))
        found = layers(n, self.seed)
        with torch.no_grad():
            outputs = {name: layer(hidden) for name, layer in found.items()}
        self.results["parity"].append(asdict(require_layer_parity(outputs, n, torch.float32)))
        for direction in DIRECTIONS:
            progress(f"timing n = {n:,}, whole layers: {direction}")
            calls = {name: _layer_call(layer, hidden, direction) for name, layer in found.items()}
            self._time(calls, n, torch.float32, direction, "layer", time.perf_counter, None)

    def measure_memory(self, contestant: Contestant, direction: str) -> None:
        lengths = [n for n in self.plan.memory_lengths if n <= contestant.longest]
        setting = self.settings[contestant.name]
        for record in peak_memory(contestant.name, setting, direction, torch.float32, lengths, self.seed):
            progress(f"memory, {direction}, n = {record['n']:,}: {contestant.name}")
            self.results["memory"].append({"name": contestant.name, "direction": direction, **record})

    def _contestants(self, n: int) -> list[Contestant]:
        return [CONTESTANTS[name] for name in self.plan.names if n <= CONTESTANTS[name].longest]

    def _gate(self, prepared: Prepared, whole: bool = False, directions: Sequence[str] = DIRECTIONS) -> None:
        checks = require_parity(prepared, whole=whole, directions=directions)
        self.results["parity"] += [asdict(check) for check in checks]

    def _time(
        self, calls: dict[str, Callable[[], object]], n: int, dtype: torch.dtype, direction: str, section: str,
        clock: Callable[[], float], rounds: int | None,
    ) -> None:  # fmt: skip
        entries = [Entry(name, call) for name, call in calls.items()]
        rounds = self.plan.rounds if rounds is None else min(rounds, self.plan.rounds)
        found = interleave(entries, rounds=rounds, patience=self.plan.patience, rng=self.rng, clock=clock)
        for name, samples in found.items():
            summary = spread(list(samples.values()))
            self.results["times"].append({
                "section": section, "dtype": _name(dtype), "direction": direction, "n": n, "name": name,
                "setting": self.settings.get(name, "default"), "threads": torch.get_num_threads(),
                "clock": "CPU" if clock is time.process_time else "wall", **asdict(summary),
                "gflops": useful_flops(n, direction) / summary.median / 1e9,
                "microseconds_per_token": 1e6 * summary.median / n, "samples": samples,
            })  # fmt: skip


def _call(prepared: Prepared, direction: str) -> Callable[[], object]:
    return lambda: prepared.run(direction)


def _layer_call(
    layer: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, direction: str
) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad():
            return layer(hidden)

    def both() -> object:
        """Down to the hidden states; the weights' gradients are the same product for both layers and left out."""
        leaf = hidden.detach().requires_grad_()
        return torch.autograd.grad(layer(leaf).sum(), leaf)

    return forward if direction == "forward" else both


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=sorted(PLANS), default="cpu", help="the machine this is meant for")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON")
    parser.add_argument("--plot", type=Path, help="draw time per token here (.svg or .png)")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds: short inputs, two rounds")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs and of the order in each round")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 parity is red, 130 interrupted."""
    args = arguments(given)
    benchmark = Benchmark(QUICK if args.quick else PLANS[args.budget], args.seed)
    status = 0
    try:
        benchmark.run()
    except ParityError as red:
        print(f"refused: parity is red, so nothing is reported: {red}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress("interrupted: what follows is what was measured so far")
        status = 130
    finish(benchmark.results, args.out, args.plot)
    return status


def finish(results: dict[str, Any], out: Path | None, picture: Path | None) -> None:
    results["conditions"]["load_at_end"] = load()
    found = verdicts(results["times"], results["memory"])
    results["verdicts"] = [{**asdict(verdict), "word": verdict.word} for verdict in found]
    if out is not None:
        write_json(out, results)
    print(text(results, found))
    if picture is not None:
        plot(results, picture)


if __name__ == "__main__":
    sys.exit(main())
