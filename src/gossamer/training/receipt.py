"""The receipt of a training: what was learnt from what, for how long, how well, and under which conditions."""

from __future__ import annotations

import dataclasses
import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from gossamer.errors import plural
from gossamer.inspection.report import ReportTable, html_page

__all__ = ["TrainingReceipt", "conditions_of"]


@dataclass(frozen=True, kw_only=True)
class TrainingReceipt:
    """What a run did. `evaluation` and `best` are of held-out text; None where none was held out.

    `loss`: of the last step, in nats a token. `seconds`: of training, over all parts of a run that was resumed.
    `ended`: why there. `sample`: what the model wrote after the prompt.
    """

    settings: dict[str, Any]
    source: str | None
    steps: int
    tokens: int
    seconds: float
    ended: str
    loss: float | None
    evaluation: dict[str, float | None] | None
    best: dict[str, float] | None
    parameters: int
    trained: int
    conditions: dict[str, Any]
    notes: tuple[str, ...] = ()
    sample: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The receipt as JSON-ready values."""
        return {**dataclasses.asdict(self), "recipe": "train", "notes": list(self.notes)}

    def __str__(self) -> str:
        return "\n".join([f"train of {self.source or 'fresh weights'}", *(f"  {line}" for line in self.lines())])

    def to_markdown(self) -> str:
        """The receipt for a model card."""
        conditions = ", ".join(f"{name} {value}" for name, value in self.conditions.items())
        lines = [f"Trained from {self.source or 'fresh weights'} ({conditions}).", ""]
        return "\n".join([*lines, *(f"- {line}" for line in self.lines())])

    def to_html(self) -> str:
        """One page, which needs no other file; the curve of the loss is the run's own loss.svg."""
        title = f"train of {self.source or 'fresh weights'}"
        return html_page(title, self._tables(), lines=self.lines(), plots=self._plots())

    def _tables(self) -> list[ReportTable]:
        rows = tuple((name, str(value)) for name, value in self.conditions.items())
        return [ReportTable(title="Conditions", head=("", "value"), rows=rows)]

    def _plots(self) -> list[str]:
        return []

    def lines(self) -> tuple[str, ...]:
        """What it did, for people."""
        part = "" if self.trained == self.parameters else f"{self.trained:,} of "
        lines = [
            f"{plural(self.steps, 'step')}, {plural(self.tokens, 'token')}, {_duration(self.seconds)}; "
            f"ended: {self.ended}",
            f"parameters trained: {part}{self.parameters:,}",
        ]
        if self.loss is not None:
            lines.append(f"loss of the last step: {self.loss:.4f}")
        if self.evaluation is not None:
            told = [
                f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.evaluation.items() if value is not None
            ]
            lines.append(f"held out: {', '.join(told)}")
        if self.best is not None:
            ((name, value),) = ((name, value) for name, value in self.best.items() if name != "step")
            lines.append(f"best: {name.replace('_', ' ')} {value:.4f} after step {self.best['step']:,.0f}")
        return (*lines, *self.notes)


def conditions_of(device: torch.device, precision: str, processes: str) -> dict[str, Any]:
    """Under what a run's numbers were taken."""
    return {
        "gossamer": version("gossamer"),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "device": device.type if device.type != "cuda" else torch.cuda.get_device_name(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "machine": platform.machine(),
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"
