"""Models trained by the project's own commands, at most 40 minutes of one thread each, beside their floors.

    python benchmarks/trained.py PART --budget cpu|smoke [--out FILE.json] [--plots FOLDER] [--work FOLDER] [--seed N]

`translator`: verses of at most 40 tokens from English to Spanish, 3 + 3 layers from fresh weights (`gossamer train`,
`seq2seq-lm`), beside copying and beside word by word.

`summarizer`: the one-line synopsis of a description of software, a T5 of 77 M that writes titles tuned (`gs.finetune`),
ROUGE-L beside the description's first seven words.

`tagger`: parts of speech of the Brown corpus on MiniLM's body (`gossamer finetune`, `gossamer predict`), accuracy of
words beside the tag that each word mostly has.

`answerer`: who moved where and when, planted in speeches of 100 to 16,000 tokens, asked of a lengthened MiniLM
(`gossamer lengthen`, `gossamer finetune`), beside a random span and beside the nearest name, town or year.

`rewriter`: case and punctuation of the speeches' sentences, put back by that T5 tuned (`gs.finetune`), word errors
beside copying.

Held-out texts are chosen by a hash. Runs lie in --work and go on where they stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trained_answerer
import trained_rewriter
import trained_summarizer
import trained_tagger
import trained_translator
from harness import ROOT, conditions, load, progress, write_results
from slim_part import Part

PARTS: dict[str, Part] = {
    "translator": trained_translator.PART,
    "summarizer": trained_summarizer.PART,
    "tagger": trained_tagger.PART,
    "answerer": trained_answerer.PART,
    "rewriter": trained_rewriter.PART,
}
BUDGETS = ("cpu", "smoke")


def main(given: Sequence[str] | None = None) -> int:
    args = _read(given)
    part, work = PARTS[args.part], args.work / args.part / args.budget
    work.mkdir(parents=True, exist_ok=True)
    plan = part.plans[args.budget]
    results: dict[str, Any] = {
        "benchmark": f"trained {args.part}", "complete": False, "rows": [],
        "conditions": conditions(seed=args.seed, budget=args.budget, beside=args.beside, **asdict(plan)),
    }  # fmt: skip
    for record in part.rows(plan, work, args.seed):
        progress(record["name"])
        results["rows"].append(record)
        write_results(results, args.out)
    results["complete"], results["conditions"]["load_at_end"] = True, load()
    results["verdicts"] = part.verdicts(results)
    write_results(results, args.out)
    print(part.report(results))
    if args.plots is not None:
        part.plot(results, args.plots)
    return 0


def _read(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="what is trained")
    parser.add_argument("--budget", choices=BUDGETS, default="cpu", help="how much is trained")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON")
    parser.add_argument("--plots", type=Path, help="draw the results into this folder (.svg)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "trained", help="where runs lie")
    parser.add_argument("--seed", type=int, default=0, help="of weights and runs")
    parser.add_argument("--beside", default="nothing else", help="what the machine did meanwhile, told in the results")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
