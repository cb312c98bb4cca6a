"""The next token's loss without all logits: tile by tile of tokens and vocabulary, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gossamer.kernels import linear
from gossamer.kernels.ledger import ID, WIDE, Ledger
from gossamer.layers import count_positions
from gossamer.models.architecture import Architecture

__all__ = ["IGNORED", "account_next_token_loss", "count_labels", "next_token_loss", "next_tokens"]

IGNORED = -100
TILE_SCORES = 2**22
"""Scores that exist at once."""
TILE_COLUMNS = 4096


def next_tokens(
    labels: Int[Tensor, "batch length"], segments: Int[Tensor, "batch length"] | None, prefix: int = 0
) -> Int[Tensor, "batch length"]:
    """For each token the one that comes next; -100 for the last of a row or document, and where labels are ignored.

    prefix: so many first tokens of each text see one another, so none of them is to be told.
    """
    following = F.pad(labels[:, 1:].long(), (0, 1), value=IGNORED)
    if prefix:
        place = count_positions(torch.ones_like(labels, dtype=torch.bool), segments)  # from 1: that of what follows
        following.masked_fill_(place < prefix, IGNORED)
    if segments is not None:
        following[:, :-1].masked_fill_(segments[:, 1:] != segments[:, :-1], IGNORED)
    return following


def count_labels(
    architecture: Architecture, labels: Int[Tensor, "batch length"], segments: Int[Tensor, "batch length"] | None = None
) -> int:
    """How many labels of tokens a loss is the mean of: for a decoder, those that come next in their document."""
    counted = next_tokens(labels, segments, architecture.prefix) if architecture.is_decoder else labels
    return int((counted != IGNORED).sum())


def next_token_loss(
    hidden: Float[Tensor, "batch length hidden"],
    table: Float[Tensor, "vocabulary hidden"],
    targets: Int[Tensor, "batch length"],
) -> Float[Tensor, ""]:
    """The mean cross-entropy of `hidden @ table.T` with targets, -100 being ignored; NaN where all of them are.

    At most `TILE_SCORES` scores exist at once; the backward pass computes them again.
    """
    return _Loss.apply(hidden.flatten(0, -2), table, targets.flatten())


def account_next_token_loss(
    hidden: Float[Tensor, "batch length hidden"], table: Float[Tensor, "vocabulary hidden"], ledger: Ledger
) -> Tensor:
    """What `next_token_loss` takes: states, targets and every row's normalizer are kept, scores are made again."""
    tokens, (vocabulary, size) = hidden.numel() // hidden.shape[-1], table.shape
    columns = min(vocabulary, TILE_COLUMNS)
    tile = min(tokens, max(1, TILE_SCORES // columns)) * columns
    kind = hidden.dtype if hidden.dtype == torch.float64 else ledger.autocast or hidden.dtype
    copies = (tokens + vocabulary) * size * kind.itemsize if kind != hidden.dtype else 0
    narrow = tile * kind.itemsize if kind.itemsize < WIDE else 0
    ledger.count("loss", None, tokens * vocabulary, flops=2 * tokens * vocabulary * size)
    return ledger.operation(
        (), torch.promote_types(kind, torch.float32), (hidden, table),
        saves=(hidden, ledger.memory(ID * tokens), ledger.memory(WIDE * tokens)),
        scratch=copies + 2 * WIDE * tile + narrow,
        backward_bytes=copies + 3 * WIDE * tile + narrow + (WIDE * hidden.numel() if hidden.itemsize < WIDE else 0),
    )  # fmt: skip


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        # What autocast would multiply in; the backward pass runs outside of it.
        device = hidden.device.type
        given = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        kind = hidden.dtype if hidden.dtype == torch.float64 else given
        wide = torch.promote_types(kind, torch.float32)
        states, words = hidden.to(kind), table.to(kind)
        normalizer = torch.full(targets.shape, -torch.inf, dtype=wide, device=hidden.device)
        picked = torch.zeros_like(normalizer)
        for rows, columns in _tiles(*states.shape[:1], *words.shape[:1]):
            scores = linear(states[rows], words[columns]).to(wide)
            normalizer[rows] = torch.logaddexp(normalizer[rows], scores.logsumexp(dim=1))
            inside, at = _places(targets[rows], columns)
            picked[rows] += scores.gather(1, at[:, None])[:, 0].where(inside, 0)
        counted = targets != IGNORED
        ctx.kind = kind
        ctx.save_for_backward(hidden, table, targets, normalizer)
        return (normalizer - picked).where(counted, 0).sum() / counted.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden, table, targets, normalizer = ctx.saved_tensors
        states, words = hidden.to(ctx.kind), table.to(ctx.kind)
        counted = targets != IGNORED
        weight = (grad / counted.sum()).where(counted, 0)[:, None]
        into_states = torch.zeros_like(hidden, dtype=normalizer.dtype)
        into_words = torch.zeros_like(table, dtype=normalizer.dtype)
        for rows, columns in _tiles(*states.shape[:1], *words.shape[:1]):
            scores = linear(states[rows], words[columns]).to(normalizer.dtype)
            change = (scores - normalizer[rows, None]).exp_()
            inside, at = _places(targets[rows], columns)
            change.scatter_add_(1, at[:, None], -inside.to(change.dtype)[:, None])
            change = (change * weight[rows]).to(ctx.kind)
            into_states[rows] += linear(change, words[columns].t())
            into_words[columns] += linear(change.t(), states[rows].t())
        return into_states.to(hidden.dtype), into_words.to(table.dtype), None


def _tiles(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    width = min(columns, TILE_COLUMNS)
    height = max(1, TILE_SCORES // width)
    for row in range(0, rows, height):
        for column in range(0, columns, width):
            yield slice(row, min(row + height, rows)), slice(column, min(column + width, columns))


def _places(targets: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Which targets lie in these columns, and where (0 for others)."""
    inside = (targets >= columns.start) & (targets < columns.stop)
    return inside, (targets - columns.start).where(inside, 0)
