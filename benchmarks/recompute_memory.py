"""Peak memory of training steps of one decoder, model included: prints one JSON line a way.

recompute_memory.py BUDGET PATTERN N SEED WAY [WAY ...]
"""

from __future__ import annotations

import json
import sys
from functools import partial

import torch
from peak_memory import extra_memory
from recompute_models import PLANS, Plan, Training

WARM_UP = 64


def main(budget: str, pattern: str, n: str, seed: str, *ways: str) -> None:
    plan = PLANS[budget]
    for way in ways:
        train = partial(_train, plan, pattern, way=way, seed=int(seed))
        train(WARM_UP)
        extra = _extra_on_gpu if plan.device == "cuda" else extra_memory
        print(json.dumps({"extra": extra(partial(train, int(n)))}), flush=True)


def _train(plan: Plan, pattern: str, length: int, *, way: str, seed: int) -> None:
    training = Training(plan, pattern, length, way, seed)
    for _ in range(2):  # the optimizer's state is there from the second step on
        training.step()


def _extra_on_gpu(call: partial[None]) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    main(*sys.argv[1:])
