"""A whole Longformer-base-shaped model against transformers': time and memory of reading 512, 2,048 and 4,096 tokens.

    python benchmarks/encoder.py --budget cpu [--out FILE.json] [--plots FOLDER] [--only bfloat16] [--resume]

Random weights, 12 layers of 768, attention window 512, the real vocabulary, one text, inference, the same dtype on both
sides. Both read the same checkpoint, and outputs are compared before anything is timed: in float32 with each other, in
bfloat16 both with float32's. Time is interleaved; memory is a child process's peak beyond its weights and input.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from driver import Step, arguments, drive, open_store
from encoder_models import OURS, SIZES, THEIRS, Encoder, load_encoder, make_ids, write_checkpoint
from gate import ParityError, relative_error
from grid import CPU_TIME, FLOAT, HALF, WALL
from harness import Entry, interleave, spread, threads
from peak_memory import in_child
from plots import encoder_plot
from report import encoder_text
from store import Records
from torch import Tensor

MEMORY_SCRIPT = Path(__file__).resolve().parent / "encoder_memory.py"
TOLERANCE = 5e-6
"""||ours - theirs|| / ||theirs||, float32, after all layers."""
HALF_FACTOR = 1.2
"""In bfloat16 ours may be this much farther from transformers' float32 states than its own bfloat16 is."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Both models at one length, gated, then timed in turn."""

    n: int
    dtype: str
    clock: str
    rounds: int

    @property
    def key(self) -> str:
        return f"whole model, n = {self.n}, {self.dtype}, {self.clock} time"


@dataclass(frozen=True, kw_only=True)
class MemoryCase:
    """Peak memory of one library at some lengths."""

    name: str
    dtype: str
    lengths: tuple[int, ...]

    @property
    def key(self) -> str:
        return f"memory of the whole model, {self.name}, {self.dtype}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    purpose: str
    lengths: tuple[int, ...]
    clocks: tuple[str, ...]
    rounds: int
    size: str = "base"

    def cases(self, dtypes: Sequence[str]) -> Iterator[Case | MemoryCase]:
        """The longest text decides, so it comes first."""
        for dtype in dtypes:
            for n in sorted(self.lengths, reverse=True):
                for clock in self.clocks:
                    yield Case(n=n, dtype=dtype, clock=clock, rounds=self.rounds)
            for name in (OURS, THEIRS):
                yield MemoryCase(name=name, dtype=dtype, lengths=tuple(sorted(self.lengths)))


DTYPES = (FLOAT, HALF)
PLANS = {
    "cpu": Plan(purpose="measurement", lengths=(512, 2048, 4096), clocks=(WALL, CPU_TIME), rounds=5),
    "quick": Plan(purpose="a look: few rounds, every goal", lengths=(4096,), clocks=(WALL,), rounds=1),
    "smoke": Plan(
        purpose="smoke test: its times mean nothing", lengths=(64, 128), clocks=(WALL, CPU_TIME), rounds=1, size="tiny"
    ),
}


class Benchmark:
    """Both models, read when they are first needed; those of one dtype at a time."""

    def __init__(self, plan: Plan, folder: Path, seed: int) -> None:
        self.plan, self.folder, self.seed = plan, folder, seed
        self.rng = random.Random(seed)
        self.dtype = ""
        self.models: dict[str, Encoder] = {}

    def time(self, case: Case) -> dict[str, Records]:
        with threads(1) if case.clock == CPU_TIME else nullcontext():
            models, ids = self._models(case.dtype), self._ids(case.n)
            parity = self._gate(case, {name: model(ids) for name, model in models.items()})
            clock = time.process_time if case.clock == CPU_TIME else time.perf_counter
            entries = [Entry(name, partial(model, ids)) for name, model in models.items()]
            found = interleave(entries, rounds=case.rounds, patience=60.0, rng=self.rng, clock=clock)
            common = {"n": case.n, "dtype": case.dtype, "clock": case.clock, "threads": torch.get_num_threads()}
        return {"parity": parity, "times": [
            {"shape": "whole model", **common, "direction": "forward", "name": name,
             **asdict(spread(list(samples.values()))), "samples": samples}
            for name, samples in found.items()
        ]}  # fmt: skip

    def memory(self, case: MemoryCase) -> dict[str, Records]:
        self._checkpoint()
        lengths = map(str, case.lengths)
        records = in_child(
            MEMORY_SCRIPT, [case.name, self.plan.size, str(self.folder), case.dtype, str(self.seed), *lengths]
        )
        common = {"shape": "whole model", "name": case.name, "dtype": case.dtype, "direction": "forward"}
        return {"memory": [{**common, **record} for record in records]}

    def _gate(self, case: Case, outputs: dict[str, Tensor]) -> Records:
        if case.dtype == FLOAT:
            errors, tolerance = {OURS: relative_error(outputs[OURS], outputs[THEIRS].double())}, TOLERANCE
        else:
            exact = load_encoder(THEIRS, self.folder, torch.float32)(self._ids(case.n)).double()
            errors = {name: relative_error(out, exact) for name, out in outputs.items()}
            tolerance = HALF_FACTOR * errors[THEIRS]
        if not errors[OURS] <= tolerance:
            raise ParityError(f"{case.key}: relative error {errors[OURS]:.1e}, allowed {tolerance:.1e}")
        common = {"shape": "whole model", "n": case.n, "dtype": case.dtype, "what": "last hidden states"}
        return [{**common, "name": name, "error": error, "tolerance": tolerance} for name, error in errors.items()]

    def _models(self, dtype: str) -> dict[str, Encoder]:
        if self.dtype != dtype:
            self._checkpoint()
            self.models.clear()
            self.models |= {name: load_encoder(name, self.folder, getattr(torch, dtype)) for name in (OURS, THEIRS)}
            self.dtype = dtype
        return self.models

    def _checkpoint(self) -> None:
        if not (self.folder / "config.json").exists():
            write_checkpoint(self.plan.size, self.folder, self.seed)

    def _ids(self, n: int) -> Tensor:
        return make_ids(self.plan.size, n, self.seed)


def steps(plan: Plan, folder: Path, seed: int, dtypes: Sequence[str] = DTYPES) -> list[Step]:
    benchmark = Benchmark(plan, folder, seed)
    return [
        Step(case.key, partial(benchmark.time if isinstance(case, Case) else benchmark.memory, case))
        for case in plan.cases(dtypes)
    ]


def main(given: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 parity is red, 130 interrupted."""
    args = arguments(__doc__, sorted(PLANS), DTYPES, given)
    plan = PLANS[args.budget]
    store = open_store("encoder", args, batch=1, purpose=plan.purpose, model=SIZES[plan.size])
    with TemporaryDirectory() as folder:
        status = drive(steps(plan, Path(folder), args.seed, args.only or DTYPES), store, args, encoder_text)
    if args.plots is not None and status != 1:
        encoder_plot(store.results, args.plots)
    return status


if __name__ == "__main__":
    sys.exit(main())
