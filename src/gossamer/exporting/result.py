"""What an export made: files, inputs and outputs, and how far it is from the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.exporting.graph import Named

__all__ = ["DESCRIPTION", "Exported"]

DESCRIPTION = "export.json"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model as a graph in a folder of its own.

    `kind`: "whole-text" reads a batch of texts at once, "decoder-step" new tokens behind those in its caches.
    `deviation`: the largest difference from the model in `cases`, as a share of the largest number of that output.
    `memory`: how the graph's largest tensor grows with the length of a text, "linear" or "quadratic".
    """

    folder: Path
    file: str
    format: str
    kind: str
    inputs: tuple[Named, ...]
    outputs: tuple[Named, ...]
    longest: int
    memory: str
    deviation: float
    cases: tuple[str, ...]
    bytes: int
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The graph's file."""
        return self.folder / self.file

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        named = {
            side: [{"name": one.name, "dtype": one.dtype, "shape": list(one.shape)} for one in getattr(self, side)]
            for side in ("inputs", "outputs")
        }
        rest = {name: value for name, value in vars(self).items() if name not in ("folder", *named)}
        listed = {name: list(value) for name, value in rest.items() if isinstance(value, tuple)}
        return {**rest, **listed, **named}

    def __str__(self) -> str:
        def line(several: tuple[Named, ...]) -> str:
            shown = [f"{one.name} [{', '.join(map(str, one.shape))}]" for one in several[:4]]
            return ", ".join(shown) + (f" and {len(several) - 4} more" if len(several) > 4 else "")

        return "\n".join(
            [
                f"{self.path}: {self.bytes / 1e6:,.1f} MB, {self.kind}, texts of up to {self.longest:,} tokens",
                f"in:  {line(self.inputs)}",
                f"out: {line(self.outputs)}",
                f"differs from the model by {self.deviation:.1e} at most, in {len(self.cases)} comparisons; "
                f"{self.memory} in memory",
                *self.notes,
            ]
        )
