"""The receipt of a recipe: what the model was, what it is, what changed, and what was measured, and how."""

from __future__ import annotations

import dataclasses
import platform
from dataclasses import dataclass
from typing import Any

import torch

from gossamer import __version__
from gossamer.checks import as_python
from gossamer.inspection.report import ReportTable, html_page
from gossamer.models.model import Model
from gossamer.recipes.receipts.comparison import ComparedRow, Comparison, compare
from gossamer.training.receipt import TrainingReceipt

__all__ = ["Receipt", "conditions", "describe"]

_HEAD = ("", "before", "after")


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a recipe did. `measured` are numbers taken from the two models themselves, under `conditions`.

    `notes` are remarks for who asked for it, a line each. `comparison`: size, time, memory, scores and what it cost to
    make, before and after, where these were measured (`beside`, docs/receipts.md).
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
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", as_python(self.settings))

    @classmethod
    def of_training(
        cls, recipe: str, settings: dict[str, Any], before: Model, after: Model, trained: TrainingReceipt
    ) -> Receipt:
        """The receipt of a recipe that is a training: what the run says of itself, and both models described."""
        held_out = {
            f"held_out_{name}": value for name, value in (trained.evaluation or {}).items() if value is not None
        }
        return cls(
            recipe=recipe, source=before.source, settings=settings, before=describe(before), after=describe(after),
            changes=trained.lines(), measured=held_out, conditions=trained.conditions,
        )  # fmt: skip

    def beside(self, before: Model, after: Model, **measured: Any) -> Receipt:
        """The receipt with both models compared, as "before" and "after"; `measured` is for `gossamer.compare`."""
        return dataclasses.replace(self, comparison=compare({"before": before, "after": after}, **measured))

    def to_dict(self) -> dict[str, Any]:
        """The receipt as JSON-ready values; `comparison` is there where one was made."""
        fields = dataclasses.asdict(self) | {"changes": list(self.changes), "notes": list(self.notes)}
        return fields if self.comparison is not None else {k: v for k, v in fields.items() if k != "comparison"}

    def to_html(self) -> str:
        """One page with the tables and a plot, which needs no other file."""
        tables = [ReportTable(title="What it was, what it is", head=_HEAD, rows=tuple(self._differences()))]
        if self.measured:
            rows = tuple((name.replace("_", " "), _number(value)) for name, value in self.measured.items())
            said = ", ".join(f"{name} {_show(value)}" for name, value in self.conditions.items())
            tables.append(ReportTable(title="Measured", head=("", "value"), rows=rows, remark=said))
        if self.comparison is not None:
            tables.append(self.comparison.table())
        plots = self._plots() if self.comparison is None else self.comparison.plots()
        lines = (*self.changes, *(f"note: {note}" for note in self.notes))
        return html_page(f"{self._call()} of {self.source or 'a model'}", tables, lines=lines, plots=plots)

    def __str__(self) -> str:
        rows = self._differences()
        wide = max((len(name) for name, _, _ in rows), default=0)
        lines = [f"{self._call()} of {self.source or 'a model'}"]
        lines += [f"  {name:<{wide}}  {before} -> {after}" for name, before, after in rows]
        lines += [f"  - {change}" for change in self.changes]
        lines += [f"  measured: {line}" for line in self._measurements()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, *([] if self.comparison is None else ["", str(self.comparison)])])

    def to_markdown(self) -> str:
        """The receipt for a model card."""
        rows = [[_cell(cell) for cell in row] for row in (_HEAD, *self._differences())]
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
                *([] if self.comparison is None else ["", str(self.comparison)]),
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

    def _plots(self) -> list[str]:
        """What changed in number."""
        from gossamer.recipes.receipts.comparison_plot import plot_rows  # matplotlib takes a while

        names = [
            name for name, value in self.before.items() if isinstance(value, int) and value != self.after.get(name)
        ]
        rows = [ComparedRow(name=name, unit="", values=(self.before[name], self.after.get(name))) for name in names]
        return [plot_rows(("before", "after"), rows)] if rows else []

    def _measurements(self) -> list[str]:
        return [f"{name.replace('_', ' ')} {_number(value)}" for name, value in self.measured.items()]


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


def _number(value: float) -> str:
    """What was counted in full, what was measured in three figures."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _show(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
