"""Reformer's duplication task: models trained by full attention and by 1, 2, 4 rounds of hashing, evaluated by others.

    python benchmarks/duplicate.py --budget cpu|gpu|smoke [--out FILE] [--plots FOLDER] [--work FOLDER]

A sequence is 0 w 0 w, and the second w is to be told (Kitaev et al. 2020, section 5). One layer of Reformer's
attention, queries that are keys, learns it from random sequences; what it tells of others is its accuracy, under full
attention and under 8, 4, 2 and 1 rounds, as in the paper's table 2. Finished models lie in --work. Only its seconds
need a machine that does nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from duplicate_plots import duplicate_plots
from harness import arguments, conditions, load, progress, read_arguments, table, verdict, write_json, write_results

import gossamer as gs
from gossamer.models import Model
from gossamer.models.decoders import decoder
from gossamer.patterns import Hashed

PAPER: dict[str, dict[str, float]] = {
    "full": {"full": 100, "8": 94.8, "4": 92.5, "2": 76.9, "1": 52.5},
    "4": {"full": 0.8, "8": 100, "4": 99.9, "2": 99.4, "1": 91.9},
    "2": {"full": 0.8, "8": 100, "4": 99.9, "2": 98.1, "1": 86.8},
    "1": {"full": 0.8, "8": 99.9, "4": 99.6, "2": 94.8, "1": 77.9},
}
"""Table 2: accuracy in percent by how a model was trained, then by how it is evaluated."""
EVALUATED = ("full", "8", "4", "2", "1")
LEARNT = 0.99
"""What the model of full attention has to reach, or the task is too long for so few steps."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The words w have `symbols - 1` kinds of letters; all models take `steps` of `rows` sequences."""

    purpose: str
    word: int = 63
    symbols: int = 32
    steps: int = 5000
    rows: int = 16
    hidden_size: int = 256
    heads: int = 4
    buckets: int = 16
    chunk: int = 16
    learning_rate: float = 1e-3
    judged: int = 256
    device: str = "cpu"

    @property
    def length(self) -> int:
        return 2 * (self.word + 1)

    def pattern(self, way: str) -> Hashed:
        """So many rounds; "full" is the same attention without hashing, in which nobody sees itself either."""
        rounds, whole = (1, self.length) if way == "full" else (int(way), 0)
        return Hashed(rounds=rounds, buckets=self.buckets, chunk=self.chunk, whole=whole)


PLANS = {
    "cpu": Plan(purpose="measurement"),
    "gpu": Plan(
        purpose="measurement", word=511, symbols=128, steps=150_000, rows=64, buckets=64, chunk=32, device="cuda"
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", word=7, symbols=4, steps=3, rows=2, hidden_size=16, heads=2,
        buckets=2, chunk=4, judged=2,
    ),
}  # fmt: skip


def sequences(plan: Plan, rows: int, number: int) -> torch.Tensor:
    """Random ones, the same for a number; those that are judged have numbers below 0."""
    random = torch.Generator().manual_seed(2 * abs(number) + (number < 0))
    words = torch.randint(1, plan.symbols, (rows, plan.word), generator=random)
    once = torch.cat([torch.zeros(rows, 1, dtype=torch.long), words], 1)
    return torch.cat([once, once], 1)


def trained(plan: Plan, way: str, folder: Path, seed: int) -> tuple[Model, dict[str, Any]]:
    """The model of one way of training, and its losses; from `folder` where it is finished."""
    if (folder / "told.json").exists():
        return gs.load(folder / "model").to(plan.device), json.loads((folder / "told.json").read_text())
    torch.manual_seed(seed)
    model = Model(
        decoder(
            vocabulary_size=plan.symbols, length=plan.length, layers=1, hidden_size=plan.hidden_size, heads=plan.heads,
            width=plan.hidden_size, patterns=plan.pattern(way), shared_query_key=True, activation="relu",
        )
    ).to(plan.device)  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, weight_decay=0.0)
    warmup, losses, start = max(1, plan.steps // 50), [], time.monotonic()
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * min(1, (step + 1) / warmup) * min(1, 2 * (1 - step / plan.steps))
        ids = sequences(plan, plan.rows, step).to(plan.device)
        labels = ids.clone()
        labels[:, : plan.word + 2] = -100
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if (step + 1) % max(1, plan.steps // 5) == 0:
            progress(f"  step {step + 1:,}: loss {losses[-1]:.4f}")
    told = {"losses": losses[:: max(1, plan.steps // 500)], "seconds": time.monotonic() - start}
    gs.save(model, folder / "model")
    write_json(folder / "told.json", told)
    return model, told


@torch.no_grad()
def accuracy(plan: Plan, model: Model, way: str) -> float:
    """The share of letters of the second w that a model tells under another way of attention."""
    layers = tuple(
        replace(one, attention=replace(one.attention, pattern=plan.pattern(way))) for one in model.architecture.layers
    )
    other = Model(replace(model.architecture, layers=layers)).to(plan.device).eval()
    other.load_state_dict(model.state_dict())
    right = count = 0
    for number in range(0, plan.judged, plan.rows):
        ids = sequences(plan, min(plan.rows, plan.judged - number), -1 - number).to(plan.device)
        said = other(ids).logits[:, plan.word + 1 : -1].argmax(-1)
        right += int((said == ids[:, plan.word + 2 :]).sum())
        count += said.numel()
    return right / count


def verdicts(results: dict[str, Any]) -> list[str]:
    """Whether the task was learnt, and what more rounds are worth."""
    found = {row["trained"]: row["accuracy"] for row in results["rows"]}
    told = []
    if "full" in found:
        full = found["full"]["full"]
        told.append(verdict(full >= LEARNT, f"full attention tells {full:.1%} (goal: {LEARNT:.0%})"))
    for way in ("4", "2", "1"):
        if way in found:
            own = found[way]
            told.append(
                verdict(
                    own["8"] >= own["1"],
                    f"trained with {way}, more rounds tell more: 8 rounds {own['8']:.1%}, 1 round {own['1']:.1%} "
                    f"(paper: {PAPER[way]['8']:.1f} and {PAPER[way]['1']:.1f})",
                )
            )
            told.append(f"trained with {way}, full attention tells {own['full']:.1%} (paper: {PAPER[way]['full']:.1f})")
    return told


def report(results: dict[str, Any]) -> str:
    """Conditions, the table beside the paper's, verdicts."""
    told = "\n".join(f"{name}: {value}" for name, value in results["conditions"].items())
    rows = [
        [row["trained"], *(f"{100 * row['accuracy'][way]:.1f} ({PAPER[row['trained']][way]})" for way in EVALUATED),
         f"{row['seconds']:.0f}"]
        for row in results["rows"]
    ]  # fmt: skip
    header = ["trained with", *(f"by {way} (paper)" for way in EVALUATED), "seconds"]
    return "\n\n".join([told, *([table(header, rows)] if rows else []), "\n".join(verdicts(results))])


def main(given: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__, PLANS, "duplicate")
    args = read_arguments(parser, given)
    plan = PLANS[args.budget]
    results: dict[str, Any] = {
        "benchmark": "duplicate", "complete": False, "rows": [], "paper": PAPER,
        "conditions": conditions(seed=args.seed, budget=args.budget, **asdict(plan)),
    }  # fmt: skip
    for way in PAPER:
        progress(f"trained with {way}")
        model, told = trained(plan, way, args.work / args.budget / f"{way}-{args.seed}", args.seed)
        results["rows"].append(
            {"trained": way, "accuracy": {one: accuracy(plan, model, one) for one in EVALUATED}} | told
        )
        write_results(results, args.out)
    results["complete"], results["conditions"]["load_at_end"] = True, load()
    write_results(results, args.out)
    print(report(results))
    if args.plots is not None:
        duplicate_plots(results, args.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
