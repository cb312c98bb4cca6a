"""Hundreds of layers: memory and time by depth, plain, computed again, and reversible; and whether 128 of them learn.

    python benchmarks/deep.py --budget cpu|gpu|smoke [--only PARTS] [--out FILE] [--plots FOLDER] [--work FOLDER]

`memory`: one training step of 4,096 bytes at each width and depth, reversible with dropout too at the least width:
what it takes beyond parameters, gradients and the optimizer's state, as it is, and for reversible steps where the C
library is told to hand freed blocks back at once, which is what is needed; and its seconds a layer. `drift`: how far
what a reversible backward pass rebuilds at the bottom lies from what was read there, and its gradients from those of
states that are kept. `train`: byte-level decoders on the shipped speeches, 128 layers with recomputation for so many
minutes, then reversible ones and 8 layers for as many steps, each depth at a rate of its own; told are held-out losses
at equal steps. With --out, parts that were measured before stay. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from deep_plots import deep_plots
from harness import arguments, conditions, load, progress, read_arguments, table, verdict, write_results
from peak_memory import extra_memory, in_child

import gossamer as gs
from gossamer.layers import Cut, Streams
from gossamer.models import Model, stack
from gossamer.models.architecture import Architecture
from gossamer.models.decoders import decoder
from gossamer.patterns import Window
from gossamer.text import speeches
from gossamer.training.journal.journal import FILE, read_journal

PARTS = ("memory", "drift", "train")
HELD_OUT = 3
"""Speeches that nobody learns from."""
WAYS = ("plain", "computed again", "reversible", "reversible, dropout")
FLAT = 1.10
"""Reversible memory at the greatest depth, over that at the least."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """`depths` at each of `widths` and one length for memory; `deep` and `shallow` layers of width `hidden_size` learn,
    `rows` of `row_length` a step, at rates of their own: 256 narrow parts move their sum farther than 16.
    """

    purpose: str
    depths: tuple[int, ...]
    minutes: float | None
    steps: int | None = None
    length: int = 4096
    widths: tuple[int, ...] = (64, 256)
    window: int = 256
    hidden_size: int = 64
    heads: int = 4
    most_bytes: float = 18e9
    deep: int = 128
    shallow: int = 8
    rows: int = 1
    row_length: int = 512
    deep_rate: float = 1e-3
    shallow_rate: float = 2e-3
    texts: int | None = None


PLANS = {
    "cpu": Plan(purpose="measurement", depths=(8, 32, 128, 512), minutes=13),
    "gpu": Plan(purpose="measurement", depths=(8, 32, 128, 512), minutes=60, widths=(256,), hidden_size=256, heads=8),
    "smoke": Plan(
        purpose="smoke test: its numbers mean nothing", depths=(1, 2), minutes=None, steps=2, length=64, window=8,
        widths=(16,), hidden_size=16, heads=2, deep=3, shallow=2, rows=2, row_length=32, texts=6,
    ),
}  # fmt: skip


def architecture(plan: Plan, layers: int, length: int, way: str) -> Architecture:
    """A byte-level decoder; its residual maps begin narrower by 1 / sqrt(2 layers)."""
    return decoder(
        vocabulary_size=257, length=length, layers=layers, hidden_size=plan.hidden_size, heads=plan.heads,
        patterns=Window(plan.window - 1, 0), initializer="mimetic",
        recompute="both" if way == "computed again" else "nothing",
        reversible="mean" if way.startswith("reversible") else "no",
        dropout=0.1 if way.endswith("dropout") else 0.0,
    )  # fmt: skip


def one_depth(plan: Plan, width: int, layers: int, way: str, seed: int) -> dict[str, Any]:
    """Bytes and seconds of a second step, whose memory is fresh: the first made gradients and the optimizer's state."""
    seconds = 0.0
    torch.manual_seed(seed)
    model = Model(architecture(replace(plan, hidden_size=width), layers, plan.length, way)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.randint(257, (1, plan.length))

    def step() -> None:
        nonlocal seconds
        start = time.perf_counter()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        seconds = time.perf_counter() - start

    step()
    extra = extra_memory(step)
    sizes = sum(one.numel() * one.element_size() for one in model.parameters())
    return {
        "width": width, "layers": layers, "way": way, "extra": extra, "weights, gradients, optimizer": 4 * sizes,
        "seconds": seconds, "milliseconds a layer": 1e3 * seconds / layers,
    }  # fmt: skip


def depths(budget: str, plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """A record a width, way and depth, until memory ends: where the last one's, by depth, would be too much."""
    for width, way in product(plan.widths, WAYS):
        if way.endswith("dropout") and width != plan.widths[0]:
            continue  # what it keeps are seeds, as many at any width
        last: dict[str, Any] | None = None
        for layers in plan.depths:
            told = f"width {width}, {way}, {layers} layers"
            if last is not None and last["extra"] * layers / last["layers"] > plan.most_bytes:
                progress(f"{told}: would take {last['extra'] * layers / last['layers'] / 1e9:.0f} GB")
                continue
            progress(told)
            child = ["--budget", budget, "--seed", str(seed), "--child", f"{width};{layers};{way}"]
            (last,) = in_child(Path(__file__), child, gives_back=False)
            if way.startswith("reversible"):
                (needed,) = in_child(Path(__file__), child)
                last["needed"] = needed["extra"]
            yield last


def drifts(plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """A record a depth: relative errors of the states at the bottom, and of all gradients, after rounding."""
    for layers in plan.depths:
        progress(f"drift, {layers} layers")
        torch.manual_seed(seed)
        model = Model(architecture(plan, layers, plan.row_length, "reversible")).train()
        ids = torch.randint(257, (1, plan.row_length))
        begun: list[Streams] = []

        def of(states: torch.Tensor, begun: list[Streams] = begun) -> Streams:
            begun.append(_OF(states))
            return begun[-1]

        with patch.object(Streams, "of", staticmethod(of)):
            read = model.embeddings(ids, None, torch.arange(plan.row_length)[None], None).detach()
            model(ids, labels=ids).loss.backward()
        last = begun[0]._last
        assert last.source is not None
        assert last.target is not None
        states = max(_relative(one, read) for one in (last.source, last.target))
        found = _gradients(model)
        with patch.object(stack, "add_reversibly", _kept):
            model(ids, labels=ids).loss.backward()
        yield {"layers": layers, "states": states, "gradients": _relative(found, _gradients(model))}


_OF = Streams.of


def _kept(streams: Streams, part: Any, reads: Any, cuts: Any = None) -> None:
    """The definition, of which autograd keeps everything."""
    length = streams.source.shape[1]
    every = part(streams.source, Cut(start=0, stop=length, low=0, high=length))
    streams.source, streams.target = streams.target + every, streams.source


def _gradients(model: Model) -> torch.Tensor:
    found = torch.cat([one.grad.double().flatten() for one in model.parameters() if one.grad is not None])
    model.zero_grad()
    return found


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def learnt(plan: Plan, work: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A record a model: its losses, step by step, and on held-out speeches in the end."""
    texts = [one.text for one in speeches()][: plan.texts]
    steps = plan.steps
    for name, layers, way in (
        (f"{plan.deep} layers, computed again", plan.deep, "computed again"),
        (f"{plan.deep} layers, reversible", plan.deep, "reversible"),
        (f"{plan.shallow} layers", plan.shallow, "plain"),
    ):
        progress(name)
        rate = plan.deep_rate if layers == plan.deep else plan.shallow_rate
        folder = work / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
        config = {
            "model": {"architecture": architecture(plan, layers, plan.row_length, way).to_dict()},
            "data": {},
            "batch": {"rows": plan.rows, "length": plan.row_length},
            "optimizer": {"name": "adamw", "learning_rate": rate},
            "schedule": {"name": "constant", "warmup": min(50, steps or 50)},
            **({"minutes": plan.minutes} if steps is None else {"steps": steps}),
            "evaluation": {"held_out": HELD_OUT},
            "checkpoints": {"every": 100, "keep": 1},
            "journal": {"live": False},
            "seed": seed,
            "output": str(folder),
        }
        _, receipt = gs.train(config, rows=[{"text": text} for text in texts])
        steps = receipt.steps
        lines = [one for one in read_journal(folder / FILE) if one["split"] == "train"]
        yield {
            "name": name, "layers": layers, "way": way, "steps": receipt.steps, "seconds": receipt.seconds,
            "losses": [one["loss"] for one in lines], "held out": receipt.evaluation["loss"],
        }  # fmt: skip


def verdicts(results: dict[str, Any]) -> list[str]:
    """The goals, and whether they are reached."""
    told = []
    widths = sorted({one["width"] for one in results["memory"]})
    for width, way in product(widths, ("reversible", "reversible, dropout")):
        flat = [one for one in results["memory"] if (one["width"], one["way"]) == (width, way)]
        for key, how in (("extra", "takes"), ("needed", "needs (freed blocks handed back)")):
            if len(flat) > 1:
                grows = flat[-1][key] / flat[0][key]
                told.append(
                    verdict(
                        grows < FLAT,
                        f"width {width}: beyond weights, gradients and optimizer a {way} step of "
                        f"{flat[-1]['layers']} layers {how} {flat[-1][key] / 1e6:.0f} MB, of {flat[0]['layers']} "
                        f"layers {flat[0][key] / 1e6:.0f} MB: "
                        f"{100 * (grows - 1):+.0f}% (goal: under {100 * (FLAT - 1):.0f}%)",
                    )
                )
    if results["drift"]:
        deepest = results["drift"][-1]
        told.append(
            f"after {deepest['layers']} layers rebuilt states are {deepest['states']:.1e} off, gradients "
            f"{deepest['gradients']:.1e} (relative, float32)"
        )
    by_way = {one["way"]: one for one in results["train"]}
    if set(by_way) == {"computed again", "reversible", "plain"}:
        shallow = by_way["plain"]["held out"]
        for way in ("computed again", "reversible"):
            one = by_way[way]
            told.append(
                verdict(
                    one["held out"] < shallow,
                    f"{one['layers']} layers, {way}, end at {one['held out']:.3f} after {one['steps']} steps, "
                    f"{by_way['plain']['layers']} layers at {shallow:.3f}",
                )
            )
        apart = by_way["reversible"]["held out"] - by_way["computed again"]["held out"]
        told.append(
            f"reversible less computed again at equal steps: {apart:+.3f} nats a byte (Reformer, figure 4: alike)"
        )
    return told


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f}"


def report(results: dict[str, Any]) -> str:
    """Conditions, tables, verdicts."""
    told = "\n\n".join(
        "\n".join([part, *(f"{name}: {value}" for name, value in run.items())]) for part, run in results["runs"].items()
    )
    memory = [
        [str(one["width"]), one["way"], str(one["layers"]), f"{one['extra'] / 1e6:.0f}", _megabytes(one.get("needed")),
         f"{one['weights, gradients, optimizer'] / 1e6:.0f}", f"{one['seconds']:.2f}",
         f"{one['milliseconds a layer']:.1f}"]
        for one in results["memory"]
    ]  # fmt: skip
    drift = [[str(one["layers"]), f"{one['states']:.1e}", f"{one['gradients']:.1e}"] for one in results["drift"]]
    train = [
        [one["name"], str(one["steps"]), f"{one['losses'][-1]:.3f}", f"{one['held out']:.3f}", f"{one['seconds']:.0f}"]
        for one in results["train"]
    ]
    tables = [
        table(["width", "a step of", "layers", "MB beside", "needed", "MB of weights", "seconds", "ms a layer"], memory)
        if memory
        else "",
        table(["drift, layers", "states", "gradients"], drift) if drift else "",
        table(["trained", "steps", "last loss", "held out", "seconds"], train) if train else "",
    ]
    return "\n\n".join([told, *filter(None, tables), "\n".join(verdicts(results))])


def main(given: Sequence[str] | None = None) -> int:
    parser = arguments(__doc__, PLANS, "deep", PARTS)
    parser.add_argument("--child", help=SUPPRESS)
    args = read_arguments(parser, given)
    plan = PLANS[args.budget]
    if args.child is not None:
        width, layers, way = args.child.split(";")
        print(json.dumps(one_depth(plan, int(width), int(layers), way, args.seed)))
        return 0
    results: dict[str, Any] = {"benchmark": "deep", "runs": {}, **{name: [] for name in PARTS}}
    if args.out is not None and args.out.exists():
        results |= json.loads(args.out.read_text())
    sources = {
        "memory": depths(args.budget, plan, args.seed),
        "drift": drifts(plan, args.seed),
        "train": learnt(plan, args.work / args.budget, args.seed),
    }
    for name in args.only:
        results[name] = []
        results["runs"][name] = conditions(seed=args.seed, budget=args.budget, **asdict(plan))
        for record in sources[name]:
            results[name].append(record)
            write_results(results, args.out)
        results["runs"][name]["load_at_end"] = load()
        write_results(results, args.out)
    print(report(results))
    if args.plots is not None:
        deep_plots(results, args.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
