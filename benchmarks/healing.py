"""Healing after `lengthen`, as in Longformer's table 5: copied or random positions, all weights or positions alone.

    python benchmarks/healing.py --budget cpu [--out FILE.json] [--plots FOLDER] [--work FOLDER]

Text: the shipped speeches, some held out. Model: MiniLM, a real English encoder of 512 tokens. It comes without a
masked-LM head, so one is trained first, at 512 tokens, with the encoder. Then it is lengthened with copied and with
random new positions, and each is healed twice on long texts: all weights, and the new positions alone. Since the head
goes on learning too, the original is trained on with as many tokens, to compare. What is told: bits per masked token of
the held-out speeches, before and after. Runs lie in --work and are resumed where they stopped.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from harness import ROOT, conditions, load, progress, table, write_json
from healing_plots import healing_plot

import gossamer as gs
from gossamer.metrics.language import bits_per_token
from gossamer.models import MaskedLM, Model
from gossamer.recipes import heal
from gossamer.text import read_documents, write_token_file
from gossamer.training.journal.journal import FILE, read_journal
from gossamer.training.loop import train

PAPER = {"original": 1.846, "random": 10.299, "copied": 1.957, "copied, all": 1.753, "copied, positions": 1.850}
"""Longformer's table 5, bits per *character* of RoBERTa-base: 2,000 steps (all), 65,000 tokens a step."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`head_steps` of `head_rows` x 512 tokens train the head; `steps` of `rows` x `length` heal."""

    purpose: str
    length: int
    window: int
    head_steps: int
    head_rows: int
    steps: int
    rows: int
    every: int
    held_out: int
    precision: str = "float32"
    short: int = 512


PLANS = {
    "cpu": Plan(
        purpose="measurement", length=2048, window=512, head_steps=250, head_rows=4, steps=48, rows=1, every=16,
        held_out=4,
    ),
    "gpu": Plan(
        purpose="measurement", length=4096, window=512, head_steps=4000, head_rows=32, steps=2000, rows=16, every=200,
        held_out=24, precision="bfloat16",
    ),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", length=256, window=64, head_steps=2, head_rows=2, steps=2,
        rows=1, every=1, held_out=1, short=128,
    ),
}  # fmt: skip
BEGINNINGS = ("copied", "random")
HEALED = ("all", "positions")


class Benchmark:
    """Trainings, one after another, each in a folder of its own."""

    def __init__(self, plan: Plan, work: Path, seed: int) -> None:
        self.plan, self.work, self.seed = plan, work, seed

    def rows(self) -> Iterator[dict[str, Any]]:
        """One record a model: its bits before and after, and on the way."""
        short = self._short()
        yield {"name": "original", **self._train("head", short, self.plan.head_rows, self.plan.head_steps)}
        # Trained in place, so on a copy: what is lengthened is the model before that.
        rows = max(self.plan.rows * self.plan.length // self.plan.short, 1)
        more = self._train("original, trained on", copy.deepcopy(short), rows, self.plan.steps)
        yield {"name": "original, trained on", **more}
        for beginning in BEGINNINGS:
            long, _ = gs.lengthen(
                short, to=self.plan.length, window=self.plan.window, positions=beginning, seed=self.seed
            )
            for what in HEALED:
                name = f"{beginning}, {what}"
                progress(f"healing: {name}")
                _, receipt = heal(long, self._config(name, self.plan.rows, self.plan.steps), what=what)
                done = receipt.settings
                yield {
                    "name": name, "positions": beginning, "what": what,
                    "before": receipt.measured["bits_per_masked_token_before"],
                    "after": receipt.measured["bits_per_masked_token_after"],
                    "curve": self._curve(name), "steps": done["steps"], "tokens": done["tokens"],
                }  # fmt: skip

    def _short(self) -> Model:
        """MiniLM with a fresh head; the speeches as its tokens."""
        torch.manual_seed(self.seed)
        model = gs.load("sample:minilm", head=MaskedLM(), dtype="float32")
        if self.plan.short < model.architecture.length:
            model = _cut(model, self.plan.short)
        self.work.mkdir(parents=True, exist_ok=True)
        if not self._tokens.exists():
            progress("tokenizing the speeches")
            write_token_file(self._tokens, read_documents(["speeches"]), model.tokenizer)
        return model

    def _train(self, name: str, model: Model, rows: int, steps: int) -> dict[str, Any]:
        """Train a model in place at its own length; its record."""
        progress(f"training: {name}")
        _, receipt = train(self._config(name, rows, steps), model=model)
        assert receipt.evaluation is not None
        bits = bits_per_token(float(receipt.evaluation["loss"] or 0.0))
        return {"after": bits, "curve": self._curve(name), "steps": receipt.steps, "tokens": receipt.tokens}

    @property
    def _tokens(self) -> Path:
        return self.work / "speeches.tokens"

    def _config(self, name: str, rows: int, steps: int) -> dict[str, Any]:
        of_head = name == "head"
        every = max(steps // 2, 1) if of_head else self.plan.every
        return {
            "data": str(self._tokens),
            "objective": {"kind": "masked-lm"},
            "batch": {"rows": rows},
            "optimizer": {"learning_rate": 1e-4 if of_head else 5e-5, "weight_decay": 0.01},
            "schedule": {"name": "linear", "warmup": 0.1},
            "steps": steps,
            "precision": self.plan.precision,
            "evaluation": {"held_out": self.plan.held_out, "every": every},
            "checkpoints": {"every": max(steps // 4, 1), "keep": 1},
            "journal": {"live": False},
            "seed": self.seed,
            "output": str(self._folder(name)),
        }

    def _folder(self, name: str) -> Path:
        return self.work / name.replace(", ", "-").replace(" ", "-")

    def _curve(self, name: str) -> list[tuple[int, float]]:
        """(step, bits) of the held-out text while it was trained."""
        lines = read_journal(self._folder(name) / FILE)
        return [
            (one["step"], bits_per_token(one["loss"]))
            for one in lines
            if one["split"] != "train" and one.get("loss") is not None
        ]


def _cut(model: Model, length: int) -> Model:
    """The model with the first rows of its position table alone, for runs that are to be short."""
    old = model.architecture
    positions = replace(old.embeddings.positions, length=length)
    longer = replace(old, embeddings=replace(old.embeddings, positions=positions), length=length)
    new = Model(longer, tokenizer=model.tokenizer)
    state = model.state_dict()
    state["embeddings.position.weight"] = state["embeddings.position.weight"][: positions.offset + length]
    new.load_state_dict(state)
    new.tokenizer = model.tokenizer.with_max_length(length)
    return new


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The paper's claims, and whether they hold here."""
    found = {one["name"]: one for one in rows}
    copied, drawn, alone = (found.get(name) for name in ("copied, all", "random, all", "copied, positions"))
    if not (copied and drawn and alone):
        return []
    claims = {
        "copied positions begin better than random ones": (copied["before"], drawn["before"]),
        "healing all weights improves the copied ones": (copied["after"], copied["before"]),
        "healing the new positions alone improves them too": (alone["after"], alone["before"]),
        "all weights improve them more than positions alone": (copied["after"], alone["after"]),
        "after healing, copied ones are still better": (copied["after"], drawn["after"]),
        "healed, the long model beats the original": (copied["after"], found["original"]["after"]),
        "and the original trained on": (copied["after"], found["original, trained on"]["after"]),
    }
    return [
        f"{'holds' if better < worse else 'falls short'}: {claim}: {better:.4f} against {worse:.4f} bits"
        for claim, (better, worse) in claims.items()
    ]


def report(results: dict[str, Any]) -> str:
    """Conditions, a line a model, verdicts."""
    rows = [
        [one["name"], _told(one.get("before")), _told(one["after"]), f"{one['steps']:,}", f"{one['tokens']:,}"]
        for one in results["rows"]
    ]
    told = "\n".join(f"{name}: {value}" for name, value in results["conditions"].items())
    header = ["bits per masked token, held out", "before", "after", "steps", "tokens"]
    return "\n\n".join([told, table(header, rows), "\n".join(verdicts(results["rows"]))])


def _told(bits: float | None) -> str:
    return "-" if bits is None else f"{bits:.3f}"


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=sorted(PLANS), default="cpu", help="how much is trained")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON, after each model")
    parser.add_argument("--plots", type=Path, help="draw the results into this folder (.svg)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "healing", help="where the runs lie")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings and of random positions")
    args = parser.parse_args(given)
    plan = PLANS[args.budget]
    if args.budget == "gpu" and not torch.cuda.is_available():
        sys.exit("--budget gpu needs a GPU that torch can use; there is none")
    results: dict[str, Any] = {
        "benchmark": "healing", "complete": False, "paper": PAPER, "rows": [],
        "conditions": conditions(seed=args.seed, budget=args.budget, **asdict(plan)),
    }  # fmt: skip
    for record in Benchmark(plan, args.work / args.budget, args.seed).rows():
        results["rows"].append(record)
        if args.out is not None:
            write_json(args.out, results)
    results["complete"], results["conditions"]["load_at_end"] = True, load()
    if args.out is not None:
        write_json(args.out, results)
    print(report(results))
    if args.plots is not None:
        healing_plot(results, args.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
