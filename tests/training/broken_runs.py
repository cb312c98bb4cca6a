"""Runs that end in the middle of a step, in this process."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from gossamer.training import run as run_module
from gossamer.training.loop import train
from gossamer.training.stops import RunStopped


def broken_off(
    config: Any, step: int, how: type[BaseException], *, learn: Callable[..., Any] = train, **given: Any
) -> None:
    """A run that is told to stop in the middle of a step (RunStopped), or that ends there without saving anything."""
    with pytest.MonkeyPatch.context() as patch:
        update = run_module.Run.update

        def end(run: run_module.Run) -> None:
            if run.step + 1 == step:
                if how is not RunStopped:
                    raise how
                signal.raise_signal(signal.SIGTERM)
            update(run)

        patch.setattr(run_module.Run, "update", end)
        with pytest.raises(how):
            learn(config, **given)
