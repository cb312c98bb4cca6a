"""A summary laid out for a terminal, with or without colour, in 80 columns."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from gossamer.inspection.cost import Cost
from gossamer.models.architecture import Architecture
from gossamer.models.inputs import advise_longer

if TYPE_CHECKING:
    from gossamer.inspection.tree import Node

__all__ = ["as_text", "cost_table", "flops_text", "picture_text", "size_text", "tree_table"]

WIDTH = 100


def size_text(size: float) -> str:
    """A number of bytes as people say it, in powers of 1000: 90.9 MB."""
    return _scaled_text(size, ("B", "kB", "MB", "GB", "TB", "PB"))


def flops_text(flops: float) -> str:
    """A number of floating-point operations: 11.8 GFLOP."""
    return _scaled_text(flops, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def _scaled_text(value: float, units: Sequence[str]) -> str:
    rank = 0
    while value >= 999.5 and rank < len(units) - 1:
        value, rank = value / 1000, rank + 1
    digits = 0 if rank == 0 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {units[rank]}"


def as_text(page: RenderableType, width: int = WIDTH) -> str:
    """The page as plain text without colour or trailing blanks."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(page)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def tree_table(root: Node, itemsize: int) -> Table:
    """Every part on a line of its own: what it is, parameters, bytes."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("part", no_wrap=True)
    table.add_column("")
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for guide, node, depth in _walk(root):
        style = ("bold", "bold cyan", "cyan")[min(depth, 2)]
        count = f"{node.parameters:,}" if node.parameters else ""
        size = size_text(node.parameters * itemsize) if node.parameters else ""
        name = Text.assemble((guide, "dim"), (node.name, style if node.children or depth < 2 else ""))
        table.add_row(name, Text(node.text), count, size, style="" if depth < 2 else "not bold")
    return table


def _walk(node: Node, lead: str = "", depth: int = 0, last: bool = True) -> Iterator[tuple[str, Node, int]]:
    """Each node with the lines drawn before its name."""
    branch = "" if depth == 0 else "└─ " if last else "├─ "
    yield lead + branch, node, depth
    below = "" if depth == 0 else lead + ("   " if last else "│  ")
    for i, child in enumerate(node.children):
        yield from _walk(child, below, depth + 1, i == len(node.children) - 1)


def cost_table(costs: Sequence[Cost], full: Sequence[Cost], architecture: Architecture) -> Group:
    """FLOPs and memory at each length; `full` is the same model under full attention, [] where it is that already."""
    limit = architecture.length
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False)
    for name in ("tokens", "FLOPs", "of it pairs", "memory", "backend"):
        table.add_column(name, justify="left" if name == "backend" else "right", no_wrap=True)
    if full:
        table.add_column("full attention", justify="right", no_wrap=True)
    for i, one in enumerate(costs):
        beyond = one.length > limit
        share = f"{one.pair_flops / one.flops:.0%}" if one.flops else "0%"
        row = [f"{one.length:,}{'*' if beyond else ''}", flops_text(one.flops), share, size_text(one.peak)]
        row.append(", ".join(one.backends))
        if full:
            row.append(flops_text(full[i].flops))
        table.add_row(*row, style="dim" if beyond else "")
    first = ", its first token global" * any(one.global_tokens for one in costs)
    notes = [f"one text{first}; 2 FLOPs a multiply-add; memory is estimated, weights included"]
    longest = max((one.length for one in costs), default=0)
    if longest > limit:
        said = f"* reads {limit:,} tokens at most", _remedy(architecture, longest, full)
        notes.append("; ".join(filter(None, said)))
    return Group(table, *(Text(note, style="dim") for note in notes))


def _remedy(architecture: Architecture, length: int, full: Sequence[Cost]) -> str:
    """What makes the model read so many tokens, where something does: for `lengthen`, as the command's words."""
    advice = advise_longer(architecture, length)
    if not advice or architecture.embeddings.positions.scheme != "learned":
        return advice
    return f"lengthen the original to {length:,}" if full else f"gossamer lengthen MODEL --to {length} --out DIR"


def picture_text(picture: str) -> Text:
    """A pattern's picture, every cell two columns wide, so that squares look square."""
    return Text("\n".join("".join(cell * 2 for cell in line) for line in picture.splitlines()), style="blue")
