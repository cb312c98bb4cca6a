"""The receipt of a recipe: what the model was, what it is, what changed, and what was measured, and how."""

from __future__ import annotations

import dataclasses
import platform
from dataclasses import dataclass
from typing import Any

import torch

from gossamer import __version__
from gossamer.models.model import Model

__all__ = ["Receipt", "conditions", "describe"]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a recipe did. `measured` are numbers taken from the two models themselves, under `conditions`.

    `notes` are remarks for who asked for it, a line each.
    """

    recipe: str
    source: str | None
    settings: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]
    changes: tuple[str, ...]
    measured: dict[str, float]
    conditions: dict[str, Any]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The receipt as JSON-ready values."""
        return dataclasses.asdict(self) | {"changes": list(self.changes), "notes": list(self.notes)}

    def __str__(self) -> str:
        rows = self._differences()
        wide = max((len(name) for name, _, _ in rows), default=0)
        lines = [f"{self._call()} of {self.source or 'a model'}"]
        lines += [f"  {name:<{wide}}  {before} -> {after}" for name, before, after in rows]
        lines += [f"  - {change}" for change in self.changes]
        lines += [f"  measured: {line}" for line in self._measurements()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """The receipt for a model card."""
        rows = [[_cell(cell) for cell in row] for row in (("", "before", "after"), *self._differences())]
        conditions = ", ".join(f"{name} {_show(value)}" for name, value in self.conditions.items())
        return "\n".join(
            [
                f"`{self._call()}` of {self.source or 'a model'}.",
                "",
                *(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * 3, *rows[1:]]),
                "",
                *(f"- {change}" for change in self.changes),
                "",
                f"Measured ({conditions}):",
                "",
                *(f"- {line}" for line in self._measurements()),
                *(["", *(f"Note: {note}." for note in self.notes)] if self.notes else []),
            ]
        )

    def _call(self) -> str:
        return f"{self.recipe}({', '.join(f'{name}={value}' for name, value in self.settings.items())})"

    def _differences(self) -> list[tuple[str, str, str]]:
        return [
            (name, _show(value), _show(self.after.get(name)))
            for name, value in self.before.items()
            if value != self.after.get(name)
        ]

    def _measurements(self) -> list[str]:
        return [f"{name.replace('_', ' ')} {value:.3g}" for name, value in self.measured.items()]


def describe(model: Model) -> dict[str, Any]:
    """The facts about a model that recipes change: format, length, patterns, parameters and bytes."""
    tensors = list(model.parameters())
    patterns = dict.fromkeys(str(layer.attention.pattern) for layer in model.architecture.layers)
    return {
        "family": model.family,
        "length": model.architecture.length,
        "layers": len(model.architecture.layers),
        "attention": "; ".join(patterns),
        "parameters": sum(tensor.numel() for tensor in tensors),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        "dtype": str(tensors[0].dtype).removeprefix("torch."),
    }


def conditions(model: Model) -> dict[str, Any]:
    """Under what the numbers of a receipt were taken with this model."""
    weight = next(model.parameters())
    return {
        "gossamer": __version__,
        "torch": torch.__version__,
        "device": str(weight.device),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }


def _show(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
