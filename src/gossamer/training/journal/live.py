"""The live line of a run: one line that changes on a terminal, else a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

__all__ = ["LiveLine", "describe", "memory_in_use"]

PLAIN_EVERY = 10.0
"""Seconds between two lines where there is no terminal."""
DRAWN_EVERY = 0.2
"""Seconds between two drawings on a terminal."""

Numbers = Mapping[str, float | int | None]


class LiveLine:
    """Shows how a run goes on, on stderr: at once, then now and then, and always its last step."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._live: Live | None = None
        self._due = 0.0
        self._first: tuple[int, float] | None = None

    def show(self, step: int, steps: int, numbers: Numbers) -> None:
        now = time.monotonic()
        first_step, started = self._first = self._first or (step, now)
        if now < self._due and step < steps:
            return
        self._due = now + (DRAWN_EVERY if self._console.is_terminal else PLAIN_EVERY)
        done = step - first_step
        left = self._left((now - started) / done * (steps - step) if done else None, numbers.get("seconds_at_most"))
        line = Text(describe(step, steps, {"memory": memory_in_use(), **left, **numbers}))
        if not self._console.is_terminal:
            self._console.print(line, soft_wrap=True)
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        line.no_wrap, line.overflow = True, "ellipsis"
        self._live.update(line, refresh=True)

    @staticmethod
    def _left(reckoned: float | None, at_most: float | None) -> dict[str, float]:
        """What is left by the steps so far, or until the time is up, if that comes first."""
        known = [one for one in (reckoned, at_most) if one is not None]
        return {"seconds_left": min(known)} if known else {}

    def close(self) -> None:
        """Leave the last line standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def describe(step: int, steps: int, numbers: Numbers) -> str:
    """The line's text; numbers that are missing or None are left out."""
    forms = {
        "loss": lambda x: f"loss {x:.4f}",
        "bits_per_byte": lambda x: f"{x:.4f} bits/byte",
        "rate": lambda x: f"rate {x:.2e}",
        "tokens_per_second": lambda x: f"{x:,.0f} tokens/s",
        "memory": lambda x: f"{x / 1e9:.2f} GB",
        "seconds_left": lambda x: f"{_duration(x)} left",
    }
    told = [form(value) for name, form in forms.items() if (value := numbers.get(name)) is not None]
    return "  ".join([f"step {step:,}/{steps:,}", *told])


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def memory_in_use() -> int | None:
    """Bytes: on a GPU the most that torch has had allocated, else what of this process is resident; None if unknown."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return None
    import resource

    return int(pages.read_text().split()[1]) * resource.getpagesize()
