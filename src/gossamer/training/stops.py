"""Stopping a run from outside: the first Ctrl-C or SIGTERM lets it end its step and save; a second Ctrl-C does not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

__all__ = ["RunStopped", "StopRequest", "listening"]


class RunStopped(KeyboardInterrupt):
    """The run was stopped from outside and has been saved; `signal` says by what, 128 + it is the exit code."""

    def __init__(self, number: int, step: int, steps: int, output: Path) -> None:
        how = "run the same command to go on"
        super().__init__(f"stopped after step {step:,} of {steps:,} and saved in {output}; {how}")
        self.signal = number


class StopRequest:
    """The number of the signal that asked this process to stop, 0 as long as none did."""

    def __init__(self) -> None:
        self.signal = 0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """A signal handler. A second Ctrl-C does not wait; supervisors send SIGTERM again and again while a run saves.

        torchrun hands on what its processes got already, so there a second Ctrl-C means nothing either.
        """
        if not self.signal:
            self.signal = number
        elif number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM inside the block; in a thread, which signals never reach, nothing is caught."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
