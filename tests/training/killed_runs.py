"""Runs that are killed and restarted until they are done, in forks of one process, so that torch is loaded once.

`python killed_runs.py FOLDER` makes `unbroken` and one folder for each moment of death in FOLDER, then prints how often
each was killed, as JSON. Children die by SIGKILL: at the very lines named in MOMENTS, or whenever their parent likes.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiny_runs import decoder_config

from gossamer.checkpoints import replace
from gossamer.training import run
from gossamer.training.journal.journal import Journal
from gossamer.training.loop import train
from gossamer.training.resume import state

STEPS = 18
"""Of which an epoch is 8."""


def settings(folder: Path, name: str) -> dict[str, Any]:
    evaluation = {"held_out": 0.1, "every": 5}
    return decoder_config(folder, name, steps=STEPS, checkpoints={"every": 4, "keep": 2}, evaluation=evaluation)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(module: Any, name: str, call: int, act: Callable[..., None]) -> None:
    """Die in the `call`-th call of a function, where `act` says."""
    real, calls = getattr(module, name), []

    def replaced(*args: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            act(real, *args, **named)
            die()
        return real(*args, **named)

    setattr(module, name, replaced)


def before(*_: object, **__: object) -> None:
    pass


def after(real: Callable[..., Any], *args: Any, **named: Any) -> None:
    real(*args, **named)


def halfway(real: Callable[..., Any], content: Any, path: Path, **named: Any) -> None:
    real(content, path, **named)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def half_a_line(real: Callable[..., Any], journal: Any, line: bytes) -> None:
    real(journal, line[: len(line) // 2])


MOMENTS: dict[str, Callable[[int], None]] = {
    "first step": lambda _: dying(run.Run, "update", 1, before),
    "second epoch": lambda attempt: dying(run.Run, "update", (11, 4)[attempt], before),
    "weights": lambda attempt: dying(state, "save_file", 2 * attempt + 1, halfway),
    "optimizer": lambda attempt: dying(state, "save_file", 2 * attempt + 2, halfway),
    "seal": lambda attempt: dying(state, "_seal", attempt + 1, before),
    "flush": lambda attempt: dying(replace, "_flush", attempt + 2, before),
    "name": lambda attempt: dying(replace, "_put", attempt + 2, before),
    "named": lambda attempt: dying(replace, "_put", attempt + 2, after),
    "old one": lambda attempt: dying(state.shutil, "rmtree", attempt + 3, before),
    "best": lambda attempt: dying(run, "save", attempt + 1, before),
    "journal": lambda attempt: dying(Journal, "_append", 9 + attempt, half_a_line),
    "last": lambda _: dying(run.Run, "receipt", 1, before),
}
DEATHS = 2
"""Of each moment; then the run is let go."""


def child(learn: Callable[[], object], prepare: Callable[[], None]) -> int:
    """A process of its own that trains; its id."""
    number = os.fork()
    if number:
        return number
    try:
        run.Run.plot = lambda self: None
        prepare()
        learn()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def ended(number: int) -> int:
    """How a child ended: 0, or minus the signal."""
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    if code not in (0, -signal.SIGKILL):
        sys.exit(f"a child ended with {code}")
    return code


def killed_at(learn: Callable[[], object], moment: Callable[[int], None]) -> int:
    """How often a run died before it was let go; moment: makes it die, given how often it has."""
    deaths = 0
    for attempt in range(DEATHS):
        deaths += ended(child(learn, lambda attempt=attempt: moment(attempt))) != 0
    assert ended(child(learn, lambda: None)) == 0
    return deaths


def killed_at_random(learn: Callable[[], object], seconds: float, seed: int) -> int:
    """Killed after a random part of the time that a whole run takes, until one got through."""
    moments, deaths = random.Random(seed), 0
    while True:
        number = child(learn, lambda: None)
        time.sleep(moments.uniform(0, seconds * 0.6) if deaths < 4 else 0)
        if deaths < 4:
            os.kill(number, signal.SIGKILL)
        if ended(number) == 0:
            return deaths
        deaths += 1


def main(folder: Path) -> None:
    def learn(name: str) -> Callable[[], object]:
        return lambda: train(settings(folder, name))

    began = time.monotonic()
    assert ended(child(learn("unbroken"), lambda: None)) == 0
    seconds = time.monotonic() - began
    deaths = {name: killed_at(learn(name), moment) for name, moment in MOMENTS.items()}
    deaths |= {f"random {seed}": killed_at_random(learn(f"random {seed}"), seconds, seed) for seed in range(2)}
    print(json.dumps(deaths))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
