"""What the verbs share that train: how a run goes on and how it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

from typer import Exit, Option

from gossamer.cli.output import note, print_json
from gossamer.training.launched import is_first_process

__all__ = ["Resume", "ResumeOption", "stoppable"]


class Resume(StrEnum):
    """What is done where a run is there already."""

    auto = "auto"
    never = "never"
    must = "must"


ResumeOption = Annotated[Resume, Option(metavar="HOW", help="auto goes on with a run that is there; never; must.")]


@contextmanager
def stoppable(out: str, as_json: bool) -> Iterator[None]:
    """A run that writes to `out`: stopped inside, it is told, and the command ends as by the signal."""
    from gossamer.training.stops import RunStopped

    try:
        yield
    except RunStopped as stop:
        if is_first_process():
            note(str(stop))
            if as_json:
                print_json({"out": out, "stopped": str(stop), "signal": stop.signal})
        raise Exit(128 + stop.signal) from None
