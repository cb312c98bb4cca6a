"""Peak memory of training steps, in a process of its own: one JSON line for each case that it is given as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from functools import partial
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "benchmarks")]

from peak_memory import extra_memory  # noqa: E402
from step_cases import Case, batch  # noqa: E402

from gossamer.models import Model  # noqa: E402
from gossamer.training.optimization.optimizers import build_optimizer  # noqa: E402

STEPS = 2


def train(case: Case, device: str = "cpu") -> None:
    """A few steps as `gossamer.training.steps` takes them."""
    model = Model(case.architecture).train().to(device)
    optimizer = build_optimizer(case.settings, model.named_parameters())
    given = {name: one.to(device) for name, one in batch(case).items()}
    for _ in range(STEPS):
        for _ in range(case.accumulation):
            context = contextlib.nullcontext()
            if case.autocast is not None:
                context = torch.autocast(device, dtype=getattr(torch, case.autocast))
            with context:
                loss = model(**given).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def main(given: str) -> None:
    cases = [Case(**one) for one in json.loads(given)]
    for case in {one.autocast: one for one in cases}.values():
        train(Case(autocast=case.autocast, length=64))  # libraries are loaded
    for case in cases:
        print(json.dumps({"peak": extra_memory(partial(train, case))}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
