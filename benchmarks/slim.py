"""Smaller models that learn from larger ones: what they keep, and what they save.

    python benchmarks/slim.py distil --budget cpu [--out FILE.json] [--plots FOLDER] [--work FOLDER]

`distil`: MiniLM, fine-tuned to tell good film reviews from bad ones, is the teacher; a student of every other layer
learns from it by DistilBERT's triple loss, without the cosine, from the labels alone, and from random weights. Told are
accuracies, differences with paired intervals over the tested sentences, and latencies taken in turns. Runs lie in
--work and go on where they stopped.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import slim_distil
import torch
from harness import ROOT, conditions, load, progress, table, write_json
from slim_plots import distil_plot

from gossamer.metrics import paired_difference

PARTS = ("distil",)


def accuracies(results: dict[str, Any]) -> dict[str, float]:
    """The mean over the seeds, by name."""
    names = dict.fromkeys(row["name"] for row in results["rows"])
    return {name: statistics.mean(row["accuracy"] for row in results["rows"] if row["name"] == name) for name in names}


def differences(results: dict[str, Any]) -> dict[str, str]:
    """Accuracy less that of the triple loss, with an interval over sentences, whose seeds are averaged."""
    rows = {name: _by_sentence(results, name) for name in accuracies(results)}
    first = rows.pop("triple loss", None)
    return {} if first is None else {name: str(paired_difference(right, first)) for name, right in rows.items()}


def _by_sentence(results: dict[str, Any], name: str) -> list[float]:
    columns = [row["right"] for row in results["rows"] if row["name"] == name]
    return [statistics.mean(values) for values in zip(*columns, strict=True)]


def verdicts(results: dict[str, Any]) -> list[str]:
    """The paper's claims, and whether they hold here."""
    means, told = accuracies(results), []
    if "triple loss" in means:
        share = means["triple loss"] / means["teacher"]
        told.append(_verdict(share >= 0.97, f"97% of the teacher's accuracy: {share:.1%}"))
    if "random initialisation" in means:
        drawn = paired_difference(_by_sentence(results, "random initialisation"), _by_sentence(results, "triple loss"))
        assert drawn is not None
        told.append(_verdict(drawn.high < 0, f"random initialisation is clearly below: {drawn}"))
    for first, second in zip(results["times"][::2], results["times"][1::2], strict=True):
        ratio = first["median"] / second["median"]
        where = f"batch {first['batch']}, threads {first['threads']}"
        told.append(_verdict(ratio >= 1.6, f"1.6 times as fast ({where}): {ratio:.2f}"))
    return told


def _verdict(holds: bool, claim: str) -> str:
    return f"{'holds' if holds else 'falls short'}: {claim}"


def report(results: dict[str, Any]) -> str:
    """Conditions, a line a model, latencies, verdicts."""
    told = "\n".join(f"{name}: {value}" for name, value in results["conditions"].items())
    against = differences(results)
    rows = [[name, f"{value:.4f}", against.get(name, "-")] for name, value in accuracies(results).items()]
    times = [
        [f"{one['name']}, batch {one['batch']}, threads {one['threads']}", f"{one['median'] * 1e3:.1f}",
         f"{one['lower_quartile'] * 1e3:.1f} to {one['upper_quartile'] * 1e3:.1f}"]
        for one in results["times"]
    ]  # fmt: skip
    parts = [told, table(["film reviews, tested", "accuracy", "less the triple loss's"], rows)]
    if times:
        parts.append(table(["128 tokens", "ms", "quartiles"], times))
    return "\n\n".join([*parts, "\n".join(verdicts(results))])


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="what is measured")
    parser.add_argument("--budget", choices=sorted(slim_distil.PLANS), default="cpu", help="how much is trained")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON, after each model")
    parser.add_argument("--plots", type=Path, help="draw the results into this folder (.svg)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "slim", help="where the runs lie")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    args = parser.parse_args(given)
    plan = slim_distil.PLANS[args.budget]
    if args.budget == "gpu" and not torch.cuda.is_available():
        sys.exit("--budget gpu needs a GPU that torch can use; there is none")
    results: dict[str, Any] = {
        "benchmark": f"slim {args.part}", "complete": False, "paper": slim_distil.PAPER, "rows": [], "times": [],
        "conditions": conditions(seed=args.seed, budget=args.budget, **asdict(plan)),
    }  # fmt: skip
    work = args.work / args.part / args.budget
    for record in slim_distil.rows(plan, work, args.seed):
        results["rows"].append(record)
        if args.out is not None:
            write_json(args.out, results)
    progress("latencies")
    results["times"] = slim_distil.times(plan, work, args.seed)
    results["complete"], results["conditions"]["load_at_end"] = True, load()
    if args.out is not None:
        write_json(args.out, results)
    print(report(results))
    if args.plots is not None:
        distil_plot(results, args.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
