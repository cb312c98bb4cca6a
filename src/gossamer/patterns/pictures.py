"""Patterns as pictures: block characters for a terminal, SVG for a page.

Both are drawn from row sums, so a picture of n tokens takes O(n) memory and time, not O(n^2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from html import escape
from operator import or_
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.patterns.checks import check_integer
from gossamer.patterns.grid import Grid

if TYPE_CHECKING:
    from gossamer.patterns.base import Pattern

__all__ = ["svg_picture", "text_picture"]

SHADES = " ░▒▓█"
OPACITIES = (0.0, 0.35, 0.55, 0.75, 1.0)
COLOURS = {"local": "#2b6cb0", "global": "#dd6b20"}
SVG_CELLS = 96
"""Cells a side, for all panels together: the worst picture (every other cell) stays under 100 kB."""


def text_picture(pattern: Pattern, grid: Grid, width: int) -> str:
    """One line a row of cells, the keys from left to right; groups of heads one below the other, with captions."""
    check_integer("picture", "width", width, 1)
    _check_grid(grid)
    drawn = [(part, heads, _drawn(part, grid, width)) for part, heads in pattern.by_head(0)]
    return "\n\n".join(f"{heads} x {part}\n{lines}" if heads else lines for part, heads, lines in drawn)


def _drawn(pattern: Pattern, grid: Grid, width: int) -> str:
    return "\n".join("".join(SHADES[level] for level in row) for row in _levels(pattern, grid, width).tolist())


def svg_picture(pattern: Pattern, grid: Grid, size: int) -> str:
    """Blue for what a query sees by its place, orange for global rows and columns, paler where only some pairs are."""
    check_integer("picture", "size", size, 1)
    _check_grid(grid)
    groups = pattern.by_head(0)
    across = math.ceil(math.sqrt(len(groups)))
    down = math.ceil(len(groups) / across)
    most = max(1, SVG_CELLS // across)
    rows, columns, gap = min(most, grid.queries), min(most, grid.keys), max(1, most // 16)
    width, height = across * (columns + gap) - gap, down * (rows + gap) - gap
    scale = size / max(width, height)
    title = escape(f"{pattern}: {grid.queries} queries (rows) by {grid.keys} keys (columns)")
    panels = [
        _panel(part, heads, grid, most, (place % across * (columns + gap), place // across * (rows + gap)))
        for place, (part, heads) in enumerate(groups)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" viewBox="0 0 {width} {height}" '
        f'width="{scale * width:.4g}" height="{scale * height:.4g}" shape-rendering="crispEdges">'
        f"<title>{title}</title>{''.join(panels)}</svg>"
    )


def _panel(pattern: Pattern, heads: int, grid: Grid, most: int, corner: tuple[int, int]) -> str:
    """One group of heads: its background and a path for each colour and shade."""
    rows, columns = min(most, grid.queries), min(most, grid.keys)
    caption = f"<title>{escape(f'{heads} x {pattern}')}</title>" if heads else ""
    moved = f' transform="translate({corner[0]} {corner[1]})"' if any(corner) else ""
    paths: dict[tuple[str, int], list[str]] = {}
    for row, column, length, look in _runs(_looks(pattern, grid, most)):
        paths.setdefault(look, []).append(f"M{column} {row}h{length}v1h-{length}z")
    drawn = "".join(
        f'<path fill="{COLOURS[colour]}" fill-opacity="{OPACITIES[level]}" d="{"".join(steps)}"/>'
        for (colour, level), steps in sorted(paths.items(), reverse=True)
    )
    return f'<g{moved}>{caption}<rect width="{columns}" height="{rows}" fill="#edf2f7"/>{drawn}</g>'


def _looks(pattern: Pattern, grid: Grid, most: int) -> list[list[tuple[str, int]]]:
    """Colour and shade of every cell; a cell is global where global tokens allow at least as much of it as the rest."""
    levels = _levels(pattern, grid, most).tolist()
    local, seeing = ([one for one in pattern.singles if one.sees_flags == of_flags] for of_flags in (False, True))
    if not seeing:
        return [[("local", level) for level in row] for row in levels]
    flagged = _levels(reduce(or_, seeing), grid, most)
    placed = _levels(reduce(or_, local), grid, most) if local else torch.zeros_like(flagged)
    is_global = (flagged >= placed).tolist()
    return [
        [("global" if apart else "local", level) for apart, level in zip(*row, strict=True)]
        for row in zip(is_global, levels, strict=True)
    ]


def _runs(looks: list[list[tuple[str, int]]]) -> Iterator[tuple[int, int, int, tuple[str, int]]]:
    """Row, first column, length and look of each run of equal cells that are not empty."""
    for row, cells in enumerate(looks):
        edges = [column for column in range(len(cells)) if column == 0 or cells[column] != cells[column - 1]]
        for first, end in zip(edges, [*edges[1:], len(cells)], strict=True):
            if cells[first][1]:
                yield row, first, end - first, cells[first]


def _levels(pattern: Pattern, grid: Grid, most: int) -> Tensor:
    """Shades 0 (no pair allowed) to 4 (all of them) of at most `most` x `most` cells, [rows, columns]."""
    rows, row_sizes = _cells(grid.query_positions - grid.query_start, most)
    columns, column_sizes = _cells(grid.key_positions, most)
    chosen = torch.arange(len(column_sizes), device=grid.device)[:, None] == columns
    sums = pattern._row_sums(grid, chosen.long())
    allowed = sums.new_zeros((len(row_sizes), len(column_sizes))).index_add_(0, rows, sums.T)
    possible = row_sizes[:, None] * column_sizes
    partly = 1 + 3 * allowed // possible
    return torch.where(allowed == 0, 0, partly)


def _cells(indices: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The cell of each index, and how many indices each cell has."""
    count = len(indices)
    cells = indices * min(most, count) // count
    return cells, torch.bincount(cells)


def _check_grid(grid: Grid) -> None:
    if grid.queries == 0 or grid.keys == 0:
        raise InputError(f"picture: there are {grid.queries} queries and {grid.keys} keys; both must be at least 1")
    if grid.lead:
        shape = list(grid.flags.shape) if grid.flags is not None else []
        raise InputError(f"picture: flags have shape {shape}; a picture shows one text, give flags of shape [keys]")
