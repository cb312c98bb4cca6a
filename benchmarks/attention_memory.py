"""Peak memory of one contestant: prints one JSON line a length, the most resident memory beyond that before the call.

attention_memory.py NAME SETTING DIRECTION SHAPE DTYPE SEED N [N ...]
"""

from __future__ import annotations

import json
import sys
from functools import partial

import torch
from contestants import CONTESTANTS, prepare
from peak_memory import extra_memory
from shapes import SHAPES, make_problem

WARM_UP = 512


def main(name: str, setting: str, direction: str, shape: str, dtype: str, seed: str, *lengths: str) -> None:
    contestant, problem_of = CONTESTANTS[name], partial(make_problem, SHAPES[shape])
    prepare(contestant, problem_of(WARM_UP, getattr(torch, dtype), int(seed)), setting).run(direction)
    for n in map(int, lengths):
        problem = problem_of(n, getattr(torch, dtype), int(seed))
        prepared = prepare(contestant, problem, setting)
        if contestant.compiles:
            prepared.run(direction)
        extra = extra_memory(partial(prepared.run, direction))
        print(json.dumps({"n": n, "extra": extra, "held": contestant.held(problem, setting)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
