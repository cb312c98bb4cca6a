"""Every task beside what others have for it: transformers' pipelines and generate, sentence-transformers.

    python benchmarks/tasks.py --budget cpu [--only classify,generate] [--out FILE.json] [--resume]

Tasks read the same texts, 5 to 400 words of speeches, with the same weights: MiniLM, whose heads are drawn. The others
take a batch size: each is tried, and the best counts. Decoders (6 layers of 512, drawn) write 64 tokens behind 64,
alone and in 8 rows, greedily and with 4 beams. Results are compared before anything is timed; both sides take turns.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from driver import Step, arguments, drive, open_store
from harness import Entry, interleave, paired_ratio, spread, table, verdict
from store import Records
from task_peers import TASKS, check, pairs_of
from task_writers import BEAMS, ROWS, SIZES, SMOKE, check_tokens, writers

OURS = "gossamer"
GENERATE = "generate"


@dataclass(frozen=True, kw_only=True)
class Plan:
    purpose: str
    texts: int
    batch_sizes: tuple[int, ...]
    rounds: int
    new: int
    sizes: dict[str, dict[str, Any]]


PLANS = {
    "cpu": Plan(purpose="measurement", texts=256, batch_sizes=(1, 8, 32), rounds=5, new=64, sizes=SIZES),
    "quick": Plan(
        purpose="a look: fewer texts, every case", texts=64, batch_sizes=(8, 32), rounds=3, new=32, sizes=SIZES
    ),
    "smoke": Plan(
        purpose="smoke test: its times mean nothing", texts=4, batch_sizes=(2,), rounds=1, new=4, sizes=SMOKE
    ),
}


def measure_task(task: str, plan: Plan, folder: Path, seed: int) -> dict[str, Records]:
    """Seconds for all texts, by side and batch size."""
    pair = pairs_of(task, folder, plan.texts, plan.batch_sizes, seed)
    for call in pair.theirs.values():
        check(task, pair, pair.ours(), call())
    entries = [Entry(OURS, pair.ours)]
    entries += [Entry(f"{pair.peer}, batches of {size}", call) for size, call in pair.theirs.items()]
    return {"times": _records(task, entries, plan, seed)}


def measure_writing(kind: str, rows: int, beams: int, plan: Plan, folder: Path, seed: int) -> dict[str, Records]:
    """Seconds for all new tokens."""
    key = _writing_key(kind, rows, beams)
    calls = writers(kind, folder, plan.sizes, plan.new, seed).calls(rows, beams, seed)
    check_tokens(key, *(call() for call in calls.values()))
    return {"times": _records(key, [Entry(name, call) for name, call in calls.items()], plan, seed, rows * plan.new)}


def _records(key: str, entries: list[Entry], plan: Plan, seed: int, tokens: int | None = None) -> Records:
    found = interleave(entries, rounds=plan.rounds, patience=90.0, rng=random.Random(seed))
    return [
        {"case": key, "name": name, "tokens": tokens, **asdict(spread(list(samples.values()))), "samples": samples}
        for name, samples in found.items()
    ]


def _writing_key(kind: str, rows: int, beams: int) -> str:
    return f"{GENERATE} {kind}, {rows} {'row' if rows == 1 else 'rows'}, {'greedy' if beams == 1 else f'{beams} beams'}"


def steps(plan: Plan, folder: Path, seed: int, only: Sequence[str]) -> list[Step]:
    found = [Step(name, partial(measure_task, name, plan, folder, seed)) for name in TASKS if name in only]
    if GENERATE in only:
        found += [
            Step(_writing_key(kind, rows, beams), partial(measure_writing, kind, rows, beams, plan, folder, seed))
            for kind in SIZES
            for beams in BEAMS
            for rows in ROWS
        ]
    return found


def report(results: dict[str, Any]) -> str:
    """A table of both sides, and a verdict for each case."""
    cases = list(dict.fromkeys(record["case"] for record in results.get("times", [])))
    rows, said = [], []
    for case in cases:
        records = [record for record in results["times"] if record["case"] == case]
        ours = next(record for record in records if record["name"] == OURS)
        best = min((record for record in records if record["name"] != OURS), key=lambda record: record["median"])
        times = paired_ratio(*({int(r): s for r, s in one["samples"].items()} for one in (best, ours)))
        rows.append([case, *(_shown(one) for one in (ours, best)), best["name"], f"{times:.2f}"])
        said.append(verdict(times >= 1, f"{case}: {times:.2f} times as fast as {best['name']}"))
    header = ["case", "gossamer, s (quartiles)", "theirs, s (quartiles)", "theirs at its best", "times as fast"]
    return "\n".join([table(header, rows), "", *said])


def _shown(record: dict[str, Any]) -> str:
    rate = f", {record['tokens'] / record['median']:,.0f} tokens/s" if record.get("tokens") else ""
    return f"{record['median']:.3f} ({record['lower_quartile']:.3f}–{record['upper_quartile']:.3f}){rate}"


def main(given: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 parity is red, 130 interrupted."""
    parts = (*TASKS, GENERATE)
    args = arguments(__doc__, sorted(PLANS), parts, given)
    plan = PLANS[args.budget]
    store = open_store("tasks", args, texts=plan.texts, new_tokens=plan.new, purpose=plan.purpose)
    with TemporaryDirectory() as folder:
        return drive(steps(plan, Path(folder), args.seed, args.only or parts), store, args, report)


if __name__ == "__main__":
    sys.exit(main())
