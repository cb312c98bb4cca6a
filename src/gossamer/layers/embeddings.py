"""Word, position and token-type tables, and the rule that gives every token its position."""

from typing import Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.kernels.ledger import ID, Ledger, own_frame
from gossamer.layers.linear import Linear
from gossamer.layers.norms import LayerNorm, RMSNorm

__all__ = ["TokenEmbeddings", "count_positions"]


class TokenEmbeddings(nn.Module):
    """The sum of a word, a position and (if `token_types`) a token-type row, normalised by `norm`, then dropout.

    With `axes` positions have a table for each dimension (`AxisPositions`), `sinusoidal` ones no weights, with 0
    `positions` none at all. Rows of words are multiplied by `scale`. With `own_words` false there is no word table:
    rows of another come as `inputs_embeds`. With `projected_size` a linear map follows (ALBERT's factorised embedding,
    Lan et al. 2020, section 3.1), or with `norms_states`, without a bias, comes before the norm (DeBERTa). Rows
    `padding_id` of the word and `position_padding` of the position table get no gradient, as in `transformers`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
        *,
        positions: int,
        token_types: int,
        padding_id: int | None,
        position_padding: int | None,
        norm: LayerNorm | RMSNorm | None,
        dropout: float,
        projected_size: int | None = None,
        axes: tuple[int, ...] = (),
        axis_sizes: tuple[int, ...] = (),
        sinusoidal: Literal["no", "in turns", "halves"] = "no",
        scale: float = 1.0,
        own_words: bool = True,
        norms_states: bool = False,
    ) -> None:
        super().__init__()
        if own_words:
            self.word = nn.Embedding(vocabulary_size, size, padding_idx=padding_id)
        self.scale = scale
        self.position: nn.Module | None = nn.Embedding(positions, size, position_padding) if positions else None
        if axes:
            self.position = AxisPositions(axes, size, axis_sizes)
        if sinusoidal != "no":
            self.position = SinusoidalPositions(size, halves=sinusoidal == "halves")
        self.token_type = nn.Embedding(token_types, size) if token_types else None
        self.norm = norm
        self.dropout = nn.Dropout(dropout)
        self.projection = None if projected_size is None else Linear(size, projected_size, bias=not norms_states)
        self.norms_states = norms_states

    def forward(
        self,
        input_ids: Int[Tensor, "batch length"] | None,
        token_type_ids: Int[Tensor, "batch length"] | None,
        position_ids: Int[Tensor, "#batch length"],
        inputs_embeds: Float[Tensor, "batch length size"] | None,
    ) -> Float[Tensor, "batch length hidden"]:
        if inputs_embeds is not None and not torch.compiler.is_compiling():
            self._check_type(inputs_embeds)
        total = self.words(cast(Tensor, input_ids)) if inputs_embeds is None else inputs_embeds
        if self.token_type is not None:
            # Type 0 is the default: its row is a plain constant, no table look-up needed.
            total = total + (self.token_type.weight[0] if token_type_ids is None else self.token_type(token_type_ids))
        if self.position is not None:
            place = self.position(position_ids)
            total = total + (place.to(total.dtype) if isinstance(self.position, SinusoidalPositions) else place)
        total = self.projection(total) if self.norms_states and self.projection is not None else total
        summed = self.dropout(total if self.norm is None else self.norm(total))
        return summed if self.norms_states or self.projection is None else self.projection(summed)

    def words(self, input_ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length size"]:
        """The rows of words, scaled."""
        rows: Tensor = self.word(input_ids)
        return rows if self.scale == 1 else rows * self.scale

    def _check_type(self, inputs_embeds: Tensor) -> None:
        own = next(self.parameters(), inputs_embeds)
        if inputs_embeds.dtype != own.dtype and not torch.is_autocast_enabled(own.device.type):
            given, needed = (str(one.dtype).removeprefix("torch.") for one in (inputs_embeds, own))
            raise InputError(
                f"inputs_embeds is {given}, the model {needed}; convert it: inputs_embeds.to(torch.{needed})"
            )

    @own_frame
    def account(self, rows: int, length: int, ledger: Ledger, words: nn.Embedding | None = None) -> Tensor:
        """What `forward` takes of so many texts of so many tokens, all of the first type; words: a shared table."""
        table = self.word if words is None else words
        total = _account_rows(table, (rows, length), ledger)
        if self.scale != 1:
            total = _account_sum(total, table.weight, ledger)
        if self.token_type is not None:
            total = _account_sum(total, self.token_type.weight, ledger)
        if isinstance(self.position, SinusoidalPositions):
            total = _account_sum(total, self.position.account(length, total.dtype, ledger), ledger)
        elif isinstance(self.position, AxisPositions):
            total = _account_sum(total, self.position.account(length, ledger), ledger)
        elif self.position is not None:
            total = _account_sum(total, _account_rows(self.position, (1, length), ledger), ledger)
        total = self.projection.account(total, ledger) if self.norms_states and self.projection is not None else total
        total = ledger.dropout(total if self.norm is None else self.norm.account(total, ledger), self.dropout.p)
        return total if self.norms_states or self.projection is None else self.projection.account(total, ledger)


class SinusoidalPositions(nn.Module):
    """Sines in even columns and cosines in odd ones, of waves from 2 pi to 10,000 * 2 pi tokens; nothing is learned.

    halves: all sines first, then all cosines, as Marian has them. Source: Vaswani et al. 2017, section 3.5. Its factor
    sqrt(size) of the word table (section 3.4) is the embeddings' `scale`.
    """

    def __init__(self, size: int, *, halves: bool = False) -> None:
        super().__init__()
        self.size, self.halves = size, halves

    def forward(self, position_ids: Int[Tensor, "#batch length"]) -> Float[Tensor, "#batch length size"]:
        # In float32 the angle of the 16,000th token would be off by a thousandth; some devices have nothing wider.
        dtype = torch.float64 if position_ids.device.type in ("cpu", "cuda", "meta") else torch.float32
        columns = torch.arange(0, self.size, 2, dtype=dtype, device=position_ids.device)
        angles = position_ids[..., None].to(dtype) * 10000.0 ** (-columns / self.size)
        waves = [angles.sin(), angles.cos()]
        every = torch.cat(waves, dim=-1) if self.halves else torch.stack(waves, dim=-1).flatten(-2)
        return every[..., : self.size]

    def account(self, length: int, dtype: torch.dtype, ledger: Ledger) -> Tensor:
        """What `forward` takes of the positions of one text, and what their conversion does: nothing is kept."""
        numbers = length * self.size
        return ledger.operation((1, length, self.size), dtype, (), scratch=5 * 4 * numbers - numbers * dtype.itemsize)


class AxisPositions(nn.ModuleList):
    """One table for each dimension, whose rows are summed; positions count the last dimension fastest.

    With `sizes` the rows have so many columns each, and lie side by side.
    Source: Sparse Transformer (Child et al. 2019, arXiv 1904.10509), section 5.3; side by side: Reformer (Kitaev et al.
    2020, arXiv 2001.04451), section 4.
    """

    def __init__(self, axes: tuple[int, ...], size: int, sizes: tuple[int, ...] = ()) -> None:
        columns = sizes or (size,) * len(axes)
        super().__init__(nn.Embedding(rows, wide) for rows, wide in zip(axes, columns, strict=True))
        self.axes = axes
        self.side_by_side = bool(sizes)

    def forward(self, position_ids: Int[Tensor, "#batch length"]) -> Float[Tensor, "#batch length size"]:
        rows, rest = [], position_ids
        for count in reversed(self.axes):
            rows.append(rest % count)
            rest = rest // count
        found = [table(row) for table, row in zip(self, reversed(rows), strict=True)]
        return torch.cat(found, dim=-1) if self.side_by_side else torch.stack(found).sum(dim=0)

    @own_frame
    def account(self, length: int, ledger: Ledger) -> Tensor:
        """What `forward` takes of the positions of one text."""
        rows = [_account_rows(table, (1, length), ledger) for table in self]
        if self.side_by_side:
            wide = sum(one.shape[-1] for one in rows)
            return ledger.operation((*rows[0].shape[:-1], wide), rows[0].dtype, tuple(rows))
        stacked = ledger.operation((len(rows), *rows[0].shape), rows[0].dtype, tuple(rows))
        return ledger.operation(rows[0].shape, rows[0].dtype, (stacked,))


def _account_rows(table: nn.Module, shape: tuple[int, int], ledger: Ledger) -> Tensor:
    """A look-up keeps the ids."""
    weight = cast(nn.Embedding, table).weight
    return ledger.operation(
        (*shape, weight.shape[1]), weight.dtype, (weight,), saves=(ledger.memory(ID * shape[0] * shape[1]),)
    )


def _account_sum(total: Tensor, row: Tensor, ledger: Ledger) -> Tensor:
    """A sum in whose place the old one is forgotten."""
    new = ledger.operation(total.shape, total.dtype, (total, row), hands_on=True)
    ledger.release(total, row)
    return new


def count_positions(
    counted: Bool[Tensor, "batch length"], segments: Int[Tensor, "batch length"] | None
) -> Int[Tensor, "batch length"]:
    """How many counted tokens lie between a token, included, and its document's start; 0 where not counted."""
    count = counted.long().cumsum(dim=1)
    if segments is not None:
        before = count - counted.long()
        starts = torch.ones_like(counted)
        starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
        count = count - torch.where(starts, before, 0).cummax(dim=1).values
    return count * counted.long()
