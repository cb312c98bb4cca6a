"""Smaller and longer models that learn from what there is: what they keep, and what they save.

    python benchmarks/slim.py PART --budget cpu [--out FILE.json] [--plots FOLDER] [--work FOLDER]

`distil`: MiniLM, fine-tuned to tell good film reviews from bad ones, is the teacher; a student of every other layer
learns from it by DistilBERT's triple loss, without the cosine, from the labels alone, and from random weights. Told are
accuracies, differences with paired intervals over the tested sentences, and latencies taken in turns.

`vectors`: students of the sentence encoder MiniLM learn its vectors of the speeches' sentences (LEAF), and their
queries, sentences of speakers that nobody learnt from, search the teacher's index of the passages around them.

`pairs`: MiniLM with its last two layers drawn anew learns from neighbouring passages of the speeches; told are the
recall that it regains beside the original's, its curve over the steps, and the loss with and without gradient caching.

`long`: MiniLM lengthened to 4,096 tokens learns the year of a speech, beside its party, against MiniLM at its own limit
and as averaged chunks of equal training; told are the years that each is off for speakers that it did not learn from.

`trim`: MiniLM's vocabulary is cut to what the speeches have; told are bytes, parameters, that tokens, rows and outputs
are the same, and what becomes of speakers whose tokens nobody counted.

`share`: the same teacher in ALBERT's form, all layers alike, attention, feed-forward or none, embeddings 64, 128 and
384 wide, each healed equally long by the teacher; told are accuracies, and which way each difference goes.

`order`: small ALBERTs and a BERT from scratch on the speeches, equal minutes each, by sentence order, next sentence or
neither; told is which of the held-out pairs of either kind each of them tells.

`scores`: MiniLM is fine-tuned with that teacher while single weights go, by magnitude, movement and soft movement, to
10% and 3%; told are accuracies, and the paired differences from magnitude.

`blocks`: the teacher loses blocks of attention and neurons of the feed-forward, what is empty is removed, and the rest
learns on; told is the front of speed against accuracy, beside a student of three layers.

`smallest`: the teacher is trimmed, factorised, distilled, pruned and compacted; told are bytes, speed and accuracy
after each.

Runs lie in --work and go on where they stopped. --only-times measures the latencies of finished runs again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import slim_blocks
import slim_distil
import slim_long
import slim_order
import slim_pairs
import slim_scores
import slim_share
import slim_smallest
import slim_trim
import slim_vectors
import torch
from harness import ROOT, conditions, load, progress, write_json
from slim_part import BUDGETS, Part

PARTS: dict[str, Part] = {
    "distil": slim_distil.PART,
    "vectors": slim_vectors.PART,
    "pairs": slim_pairs.PART,
    "long": slim_long.PART,
    "trim": slim_trim.PART,
    "share": slim_share.PART,
    "order": slim_order.PART,
    "scores": slim_scores.PART,
    "blocks": slim_blocks.PART,
    "smallest": slim_smallest.PART,
}


def main(given: Sequence[str] | None = None) -> int:
    args = _read(given)
    part, work = PARTS[args.part], args.work / args.part / args.budget
    results = _measured_again(part, args, work) if args.only_times else _measured(part, args, work)
    print(part.report(results))
    if args.plots is not None:
        part.plot(results, args.plots)
    return 0


def _read(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="what is measured")
    parser.add_argument("--budget", choices=BUDGETS, default="cpu", help="how much is trained")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON, after each model")
    parser.add_argument("--plots", type=Path, help="draw the results into this folder (.svg)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "slim", help="where the runs lie")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    parser.add_argument("--only-times", action="store_true", help="measure the latencies of a whole --out again")
    args = parser.parse_args(given)
    if args.budget == "gpu" and not torch.cuda.is_available():
        sys.exit("--budget gpu needs a GPU that torch can use; there is none")
    if args.only_times and (PARTS[args.part].times is None or args.out is None or not args.out.exists()):
        sys.exit(
            "--only-times needs a part that tells latencies (distil, blocks, smallest) and an --out that it has written"
        )
    return args


def _measured(part: Part, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All that the part measures; written after each model."""
    plan = part.plans[args.budget]
    results: dict[str, Any] = {
        "benchmark": f"slim {args.part}", "complete": False, "paper": part.paper, "rows": [], "times": [],
        "conditions": conditions(seed=args.seed, budget=args.budget, **asdict(plan)),
    }  # fmt: skip
    for record in part.rows(plan, work, args.seed):
        results["rows"].append(record)
        _write(results, args.out)
    if part.times is not None:
        progress("latencies")
        results["times"] = part.times(plan, work, args.seed)
    results["complete"], results["conditions"]["load_at_end"] = True, load()
    _write(results, args.out)
    return results


def _measured_again(part: Part, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """The results that were written, with new latencies."""
    assert part.times is not None
    results: dict[str, Any] = json.loads(args.out.read_text())
    progress("latencies, again")
    results["times"] = part.times(part.plans[args.budget], work, args.seed)
    results["conditions"]["times_again"] = conditions()
    _write(results, args.out)
    return results


def _write(results: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        write_json(out, results)


if __name__ == "__main__":
    sys.exit(main())
