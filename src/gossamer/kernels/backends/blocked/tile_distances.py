"""What a table by distance adds to the scores of tiles, and the gradient that it gets of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gossamer.kernels.backends.blocked.sequence import Sequence
from gossamer.kernels.backends.blocked.tiles import Tiles

__all__ = ["add_to_table", "distance_strip"]


def distance_strip(s: Sequence, tiles: Tiles) -> Tensor | None:
    """[heads, blocks, rows, keys], or 1 for all blocks where they get the same; None: nothing is added."""
    if s.table is None:
        return None
    if not s.is_even:
        return s.table.index_select(1, _columns(s, tiles).flatten()).unflatten(
            1, (tiles.blocks, tiles.rows, tiles.keys)
        )
    # Of the last row first: there the numbers of each row begin one further on than those of the row before.
    numbers = s.table.index_select(1, _columns_of_diagonals(s, tiles))
    rising = numbers.as_strided((len(numbers), tiles.rows, tiles.keys), (numbers.stride(0), 1, 1))
    return rising.flip(1)[:, None]


def add_to_table(into: Tensor, s: Sequence, tiles: Tiles, grads: Tensor) -> None:
    """Add the gradients of the tiles' scores, [heads, blocks, rows, keys], to those of the table's columns."""
    if not s.is_even:
        into.index_add_(1, _columns(s, tiles).flatten(), grads.flatten(1))
        return
    # Rows that are longer by all rows, read as if they were one shorter than that: each diagonal becomes a column.
    longer = pad(grads.sum(1).flip(1), (0, tiles.rows)).flatten(1)[:, : -tiles.rows]
    into.index_add_(1, _columns_of_diagonals(s, tiles), longer.unflatten(1, (tiles.rows, -1)).sum(1))


def _columns(s: Sequence, tiles: Tiles) -> Tensor:
    """Of each pair, [blocks, rows, keys]."""
    queries, keys = s.queries.bias_positions, s.keys.bias_positions
    assert queries is not None
    assert keys is not None
    of_queries, of_keys = tiles.query_view(queries[None])[0], tiles.key_view(keys[None])[0]
    return _clamped(s, of_keys[:, None, :] - of_queries[:, :, None])


def _columns_of_diagonals(s: Sequence, tiles: Tiles) -> Tensor:
    """Of the pairs of one distance, [rows + keys - 1], from the last row's with the first key on."""
    queries, keys = s.queries.bias_positions, s.keys.bias_positions
    assert queries is not None
    assert keys is not None
    of_queries = queries[tiles.query_start : tiles.query_start + tiles.rows].flip(0)
    of_keys = keys[tiles.key_start : tiles.key_start + tiles.keys]
    return _clamped(s, torch.cat([of_keys[0] - of_queries, of_keys[1:] - of_queries[-1]]))


def _clamped(s: Sequence, distances: Tensor) -> Tensor:
    assert s.table is not None
    return distances.clamp(-s.before, s.table.shape[1] - 1 - s.before) + s.before
