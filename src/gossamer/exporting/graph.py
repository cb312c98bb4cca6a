"""What is exported: a module from tensors to tensors, what its inputs may be, and how it is held to the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.kernels.pieces import compile_pattern
from gossamer.models import Architecture, Model

__all__ = ["MOST_CHECKED", "Case", "Graph", "Named", "Run", "draw_ids", "widest_window"]

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""The written file as a function: tensors in the order of `Graph.inputs` in, those of `Graph.outputs` out."""

MOST_CHECKED = 4096
"""Tokens of the longest text that a file is checked with: eager attention takes memory for all their pairs."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A tensor of the graph: its name, its type, and its sizes, those by name that are open."""

    name: str
    dtype: str
    shape: tuple[str | int, ...]

    @property
    def open(self) -> dict[int, str]:
        """The dimensions that are open, and their names."""
        return {i: size for i, size in enumerate(self.shape) if isinstance(size, str)}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the file gave beside what the model gave, [batch, ...] each, of one text or several.

    real: the tokens that count, [batch, length]; None: every number counts.
    """

    said: str
    found: Tensor
    wanted: Tensor
    real: Tensor | None = None


class Graph(ABC):
    """A model as a module that torch can trace.

    inputs, outputs: in the order in which `module` takes and gives them. bounds: least and most of each open size.
    """

    kind: str
    module: nn.Module
    inputs: tuple[Named, ...]
    outputs: tuple[Named, ...]
    bounds: dict[str, tuple[int, int]]

    @abstractmethod
    def example(self) -> tuple[Tensor, ...]:
        """Inputs to trace it with: of sizes that no `case` has."""

    @abstractmethod
    def cases(self, run: Run) -> Iterator[Case]:
        """The file beside the eager model: shorter than a window, as long, longer, padded, alone and in batches."""

    @property
    def notes(self) -> list[str]:
        """What is to be known of it, a line each."""
        return []


def widest_window(architecture: Architecture) -> int:
    """Tokens that the widest bounded band of any layer spans, the query included; 0 where no layer has one."""
    widths = [0]
    for layer in architecture.layers:
        for group in compile_pattern(layer.attention.pattern, layer.attention.heads) or ():
            bands = [one for one in group.bands if one.low is not None and one.high is not None]
            widths += [(one.high - one.low) * one.dilation + 1 for one in bands]  # type: ignore[operator]
    return max(widths)


def draw_ids(model: Model, shape: Sequence[int], real: Tensor, seed: int) -> Tensor:
    """Token ids of this shape, drawn; padding where `real` [batch, length] is False. A text has a separator and an end
    wherever the model's head looks for one.
    """
    architecture = model.architecture
    words, head = architecture.embeddings, architecture.head
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, words.vocabulary_size, tuple(shape), generator=generator)
    padding = words.padding_id
    if padding is not None and words.vocabulary_size > 1:
        ids = torch.where(ids == padding, (padding + 1) % words.vocabulary_size, ids)
    if architecture.separator_id is not None:
        ids[..., shape[-1] // 3] = architecture.separator_id
    end = getattr(head, "end_id", None)
    if end is not None:
        ids[..., 0] = end
    return ids.masked_fill(~real, 0 if padding is None else padding)
