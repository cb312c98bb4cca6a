"""What every benchmark here shares: interleaved timing, summaries with spread, conditions, safe writing, tables."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
STARTED = time.monotonic()
NUMBERS = re.compile(r"\[(?:\s*-?\d[\d.e+-]*,?)+\s*\]")


@dataclass(frozen=True)
class Entry:
    """One side of a comparison: a name and the call that does its work once, or that `tells` its seconds itself."""

    name: str
    call: Callable[[], Any]
    tells: bool = False


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Seconds a call, over the rounds: median, quartiles and best."""

    runs: int
    least: float
    lower_quartile: float
    median: float
    upper_quartile: float


def spread(seconds: Sequence[float]) -> Spread:
    """Summary of one sample or more; quartiles interpolate between samples (of one sample, all are that one)."""
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds[:1] * 3
    return Spread(
        runs=len(seconds), least=min(seconds), lower_quartile=low, median=middle, upper_quartile=high
    )  # fmt: skip


def paired_ratio(slow: dict[int, float], fast: dict[int, float]) -> float:
    """Median over the rounds that both took part in of slow / fast: what disturbs a round disturbs both sides of it."""
    return statistics.median(slow[r] / fast[r] for r in slow.keys() & fast.keys())


def interleave(
    entries: Sequence[Entry],
    *,
    rounds: int,
    patience: float,
    rng: random.Random,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[int, float]]:
    """Time the entries in rounds, each round in a new order; gives name -> round -> seconds a call.

    An entry that has used up `patience` seconds sits out the later rounds; all take part in the first.
    """
    samples: dict[str, dict[int, float]] = {entry.name: {} for entry in entries}
    spent = dict.fromkeys(samples, 0.0)
    for r in range(rounds):
        for entry in rng.sample(list(entries), len(entries)):
            if spent[entry.name] < patience:
                samples[entry.name][r] = seconds = entry.call() if entry.tells else sample(entry.call, clock)
                spent[entry.name] += seconds
    return samples


def sample(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter, at_least: float = 0.02) -> float:
    """Seconds a call takes, over as many calls as fill `at_least` seconds."""
    start, calls = clock(), 0
    while True:
        call()
        calls += 1
        if (elapsed := clock() - start) >= at_least:
            return elapsed / calls


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, torch uses so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def conditions(**more: Any) -> dict[str, Any]:
    """What a number depends on and is quoted with."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "gossamer")},
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_at_start": load(),
        **more,
    }


def load() -> float | None:
    """Load average of the last minute; None where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    """The commit, with "+" where tracked files differ from it; "unknown" outside a checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, capture_output=True)
    except OSError:
        return "unknown"
    return head.stdout.strip() + ("+" if changed.returncode else "") if head.returncode == 0 else "unknown"


def progress(message: str) -> None:
    print(f"[{time.monotonic() - STARTED:5.0f} s] {message}", file=sys.stderr, flush=True)


def write_json(path: Path, results: Any) -> None:
    """Write beside the target, then put it in the target's place: an interrupt leaves the old file whole.

    A list of numbers stands in one line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        text = json.dumps(results, indent=1)
        temporary.write_text(NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_results(results: Any, out: Path | None) -> None:
    """`write_json`, where a file is named."""
    if out is not None:
        write_json(out, results)


def arguments(words: str | None, budgets: Iterable[str], name: str, parts: Sequence[str] = ()) -> ArgumentParser:
    """What a benchmark of trainings is asked: --budget, --out, --plots, --work, --seed; --only where it has parts."""
    parser = ArgumentParser(description=words, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=list(budgets), default="cpu", help="how much is measured")
    if parts:
        split = parser_of_parts(parts)
        parser.add_argument("--only", type=split, default=list(parts), help=f"some of {','.join(parts)}")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON")
    parser.add_argument("--plots", type=Path, help="draw the results into this folder (.svg)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / name, help="where runs lie")
    parser.add_argument("--seed", type=int, default=0, help="of weights and runs")
    return parser


def parser_of_parts(parts: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads some of the parts, with commas between them."""

    def read(text: str) -> list[str]:
        asked = text.split(",")
        unknown = [one for one in asked if one not in parts]
        if unknown:
            raise ArgumentTypeError(f"{unknown[0]!r} is no part; it must be some of {','.join(parts)}")
        return asked

    return read


def read_arguments(parser: ArgumentParser, given: Sequence[str] | None) -> Namespace:
    """The arguments; exits where a GPU is asked for and there is none."""
    args = parser.parse_args(given)
    if args.budget == "gpu" and not torch.cuda.is_available():
        sys.exit("--budget gpu needs a GPU that torch can use; there is none")
    return args


def verdict(holds: bool, claim: str) -> str:
    """A claim, and whether it holds here."""
    return f"{'holds' if holds else 'falls short'}: {claim}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text columns: the first to the left, the others to the right."""
    widths = [max(len(row[c]) for row in (header, *rows)) for c in range(len(header))]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in (header, *rows)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(line).rstrip() for line in lines)
