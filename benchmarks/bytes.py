"""Byte-level language models under many patterns of attention: equal parameters, equal time, held-out bits per byte.

    python benchmarks/bytes.py --budget cpu|gpu|smoke [--only PARTS] [--out FILE.json] [--plots FOLDER]

`corpora`: the shipped speeches and 6 MB of raw Wikipedia XML under five patterns, as Child et al. 2019 (section 7) did
on enwik8. `steps`: the time of a training step at 12,288 tokens. `digits`: images, where strided attention should win.
`hashed`: hashed attention against dense, window and strided at two lengths. `ways`: factorised patterns in turns,
merged and per head. `dilations`: windows whose dilation doubles from layer to layer, against one of equal pairs.
`pictures`: squares of photographs on three axes. `layers`: a layer's time by length, dense, window and hashed.

Each model trains for the same seconds with the same settings; how many steps that is, is measured before. What papers
found is checked, and the answer printed, whichever it is. With --out, parts that were measured before stay; a part that
is broken off begins anew. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bytes_parts import PARTS
from bytes_plots import bytes_plots
from bytes_runs import PLANS, Bench
from bytes_text import bytes_text
from harness import arguments, conditions, load, read_arguments, write_results


def main(given: Sequence[str] | None = None) -> int:
    args = read_arguments(arguments(__doc__, PLANS, "bytes", tuple(PARTS)), given)
    plan = PLANS[args.budget]
    results = _measured_before(args.out, args.budget)
    args.work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=args.work) as folder:
        for part in args.only:
            # What was measured before stays until the part is done again.
            run = conditions(budget=args.budget, seed=args.seed, plan=asdict(plan))
            results["unfinished"] = {part: []}
            (Path(folder) / part).mkdir()
            for record in PARTS[part](Bench(plan, Path(folder) / part, args.seed)):
                results["unfinished"][part].append(record)
                write_results(results, args.out)
            results |= results.pop("unfinished")
            results["runs"][part] = run | {"load_at_end": load()}
            write_results(results, args.out)
    if args.plots is not None:
        bytes_plots(results, args.plots)
    print(bytes_text(results))
    return 0


def _measured_before(out: Path | None, budget: str) -> dict[str, Any]:
    """What a file has of other runs; exits where it cannot be added to."""
    if out is None or not out.exists():
        return {"benchmark": "bytes", "runs": {}}
    results: dict[str, Any] = json.loads(out.read_text())
    if results.get("benchmark") != "bytes" or "runs" not in results:
        sys.exit(f"--out {out} holds no results of this benchmark, or an older version's; name another file")
    others = {run["budget"] for run in results["runs"].values()} - {budget}
    if others:
        sys.exit(f"--out {out} holds results of --budget {', '.join(others)}, not {budget}; name another file")
    return results


if __name__ == "__main__":
    sys.exit(main())
