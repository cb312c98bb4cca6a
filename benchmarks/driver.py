"""How a benchmark is run from the command line: parts, resuming, interrupts, and what is said in the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gate import ParityError
from harness import conditions, progress
from store import Records, Store


@dataclass(frozen=True)
class Step:
    """A case, by its key, and what measures it: records by kind."""

    key: str
    measure: Callable[[], dict[str, Records]]


def arguments(
    description: str | None, budgets: Sequence[str], families: Sequence[str], given: Sequence[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=budgets, default="cpu", help="how much is measured")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON, after each case")
    parser.add_argument("--plots", type=Path, help="draw the results into this folder (.svg)")
    parser.add_argument("--only", default="", help=f"parts of the plan, with commas: {', '.join(families)}")
    parser.add_argument("--resume", action="store_true", help="keep what --out has, and measure what it lacks")
    parser.add_argument("--again", action="store_true", help="with --resume: measure the parts of --only anew")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs and of the order in each round")
    args = parser.parse_args(given)
    args.only = [name.strip() for name in args.only.split(",") if name.strip()]
    if unknown := sorted(set(args.only) - set(families)):
        parser.error(f"--only: no part is called {', '.join(unknown)}; there are {', '.join(families)}")
    if (args.resume or args.again) and not (args.resume and args.out):
        parser.error("--again needs --resume, and that needs --out: the results to go on from")
    return args


def open_store(benchmark: str, args: argparse.Namespace, **more: Any) -> Store:
    """Where the results go, with this run's conditions in it. Ends the program where --out cannot be gone on from."""
    try:
        return Store(args.out, benchmark, conditions(seed=args.seed, budget=args.budget, **more), args.resume)
    except (OSError, ValueError) as problem:
        sys.exit(f"--resume: {problem}")


def drive(
    steps: Sequence[Step], store: Store, args: argparse.Namespace, report: Callable[[dict[str, Any]], str]
) -> int:
    """Carry out what the store lacks, then report all it has. Exit status: 0 done, 1 parity is red, 130 interrupted."""
    status = 0
    try:
        carry_out(steps, store, args.again)
    except ParityError as red:
        print(f"refused: parity is red, so nothing of this case is kept or reported: {red}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress("interrupted: what follows is what was measured so far")
        status = 130
    store.finish(step.key for step in steps)
    print(report(store.results))
    return status


def carry_out(steps: Sequence[Step], store: Store, again: bool = False) -> None:
    """The steps that the store lacks; `again`, all of them."""
    for number, step in enumerate(steps, 1):
        if again or not store.has(step.key):
            progress(f"{number} of {len(steps)}: {step.key}")
            store.add(step.key, step.measure())
