"""A model on one page: its parts as a tree, what they weigh, and what reading a text of some length takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gossamer.atomic_files import check_writable, write_whole
from gossamer.errors import InputError
from gossamer.inspection.cost import Cost, cost
from gossamer.inspection.page import as_text, cost_table, picture_text, size_text, tree_table
from gossamer.inspection.tree import Node, architecture_tree
from gossamer.models import Architecture, Model
from gossamer.patterns import Full, Pattern

__all__ = ["Node", "Summary", "summary"]

LENGTHS = (512, 4096, 16384)
PICTURE_CELLS = 16
MOST_PICTURES = 4
LONGEST = 2**24


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `summary` found. Printed it is plain text; a rich console prints it in colour, a notebook as a page."""

    title: str
    architecture: Architecture
    dtype: str
    root: Node
    costs: tuple[Cost, ...]
    full_costs: tuple[Cost, ...]
    """The same model with full attention, for comparison; () where it has that already."""
    pictures: tuple[tuple[str, str], ...]
    """Each pattern that is not full: its name and its picture."""

    @property
    def parameters(self) -> int:
        return self.root.parameters

    @property
    def itemsize(self) -> int:
        """Bytes a number."""
        return getattr(torch, self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: totals, tree, costs (`readable`: within what the model takes at once) and the architecture."""
        limit = self.architecture.length
        return {
            "title": self.title,
            "length": limit,
            "dtype": self.dtype,
            "parameters": self.parameters,
            "bytes": self.parameters * self.itemsize,
            "tree": self.root.to_dict(self.itemsize),
            "costs": [{**one.to_dict(), "readable": one.length <= limit} for one in self.costs],
            "full_attention_costs": [one.to_dict() for one in self.full_costs],
            "pictures": [{"pattern": name, "text": picture} for name, picture in self.pictures],
            "architecture": self.architecture.to_dict(),
        }

    def tree(self) -> Table:
        """Every part with parameters and size, for a rich console."""
        return tree_table(self.root, self.itemsize)

    def costs_table(self) -> Group:
        """FLOPs and memory by length, for a rich console."""
        return cost_table(self.costs, self.full_costs, self.architecture)

    def html(self, beside: Summary | None = None) -> str:
        """One page of HTML with everything in it, which loads nothing and runs nothing.

        beside: of a second model, at the same lengths; what differs is marked. Raises InputError for other lengths.
        """
        from gossamer.inspection.summary_page import summary_page  # which reads summaries

        return summary_page(self, beside)

    def save(self, path: str | PathLike[str], beside: Summary | None = None) -> None:
        """Write the page to a file of HTML, as a whole or not at all.

        Raises InputError for another ending and for what may not be written, before anything is done.
        """
        path = Path(path)
        if path.suffix != ".html":
            raise InputError(f"{path}: the name must end in .html, which says how to write it")
        check_writable(path)
        page = self.html(beside).encode()
        write_whole(path, lambda file: file.write(page))

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 46em; border: 1px solid #d5d9df"
        return f'<iframe title="{escape(self.title)}" style="{style}" srcdoc="{escape(self.html())}"></iframe>'

    def __rich__(self) -> Group:
        size = size_text(self.parameters * self.itemsize)
        facts = f"{self.parameters:,} parameters, {size} in {self.dtype}; reads {self.architecture.length:,} tokens"
        head = Text.assemble((self.title, "bold"), "\n", facts, "\n")
        drawn = [
            Group(Text.assemble("\n", (name, "bold"), _caption(name)), Padding(picture_text(picture), (0, 2)))
            for name, picture in self.pictures
        ]
        return Group(head, self.tree(), *drawn, Text(), self.costs_table())

    def __str__(self) -> str:
        return as_text(self)


def summary(
    model: Architecture | Model, lengths: Sequence[int] = LENGTHS, *, dtype: torch.dtype | None = None
) -> Summary:
    """The parts of a model and its costs at some `lengths` in tokens, longer ones than it reads included.

    Where the first token is global (classification, lengthened models), costs count it; a question's length nobody
    knows.

    dtype: of the weights; a model's own, float32 for an architecture. Raises InputError for an impossible length.
    """
    _check_lengths(lengths)
    architecture = model.architecture if isinstance(model, Model) else model
    kind = dtype or (next(model.parameters()).dtype if isinstance(model, Model) else torch.float32)
    flagged = _global_tokens(architecture)
    costs = tuple(cost(architecture, n, dtype=kind, global_tokens=flagged) for n in lengths)
    full = _with_full_attention(architecture)
    compared = () if full == architecture else tuple(cost(full, n, dtype=kind) for n in lengths)
    return Summary(
        title=f"{model.source or 'new model'} ({model.family})" if isinstance(model, Model) else "architecture",
        architecture=architecture,
        dtype=str(kind).removeprefix("torch."),
        root=architecture_tree(architecture, cost(architecture, 1, dtype=kind)),
        costs=costs,
        full_costs=compared,
        pictures=tuple(_pictures(architecture)),
    )


def _caption(pattern: str) -> str:
    flagged = ", the first token flagged global" if "global" in pattern else ""
    return f": who (rows) sees whom (columns){flagged}"


def _check_lengths(lengths: Sequence[int]) -> None:
    for n in lengths:
        if type(n) is not int or not 1 <= n <= LONGEST:
            raise InputError(f"lengths has {n!r}; each must be a number of tokens from 1 to {LONGEST:,}")


def _global_tokens(architecture: Architecture) -> int:
    of_task = architecture.head is not None and architecture.head.first_is_global and architecture.takes_global_tokens
    return int(of_task or architecture.global_tokens == "first")


def _with_full_attention(architecture: Architecture) -> Architecture:
    layers = tuple(
        one if _is_full(one.attention.pattern) else _with_pattern(one, Full(one.attention.pattern.causal))
        for one in architecture.layers
    )
    return replace(architecture, layers=layers, global_tokens="none", slice_length=None)


def _is_full(pattern: Pattern) -> bool:
    return pattern in (Full(), Full(causal=True))


def _with_pattern(layer: Any, pattern: Pattern) -> Any:
    return replace(layer, attention=replace(layer.attention, pattern=pattern))


def _pictures(architecture: Architecture) -> list[tuple[str, str]]:
    """At the length the model reads, with the first token flagged as global."""
    patterns = dict.fromkeys(one.attention.pattern for one in architecture.layers)
    drawn = [one for one in patterns if not _is_full(one)][:MOST_PICTURES]
    n = min(architecture.length, LONGEST)
    flags = torch.arange(n) == 0
    return [(str(one), one.text(n, flags=flags, width=PICTURE_CELLS)) for one in drawn]
