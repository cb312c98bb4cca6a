"""A narrow embedding and a map behind it, in place of tables as wide as the states (ALBERT, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models.architecture import Architecture
from gossamer.models.checks import require
from gossamer.models.model import Model
from gossamer.surgery.students.narrow_maps import hidden_map, through
from gossamer.text.speeches import speeches

__all__ = ["Factorised", "check_embedding_size", "factorise", "word_shares"]

_PROJECTION, _WORDS = "embeddings.projection", "embeddings.word.weight"
_SPEECHES, _CHARACTERS = 64, 4000
"""How many shipped speeches are counted, and how much of each."""
_UNTIED = 1e-10
"""Of the mean second moment: what every direction has more than that of the mean, so that the two are told apart."""


@dataclass(frozen=True, kw_only=True)
class Factorised:
    """The tensors of a factorised embedding, by name.

    basis [old columns, new ones]: orthonormal, what the tables were multiplied with; None where they are as wide as
    before. kept: the share of the tables' second moment that lies in it.
    """

    weights: dict[str, Tensor]
    basis: Float[Tensor, "columns size"] | None
    kept: float


def check_embedding_size(old: Architecture, size: object) -> None:
    """InputError for a size that the tables have not, and for embeddings that cannot be factorised."""
    columns, head, positions = old.embeddings.size, old.head, old.embeddings.positions.scheme
    fits = type(size) is int and 2 <= size <= columns
    require(fits, "embedding_size", size, f"a whole number from 2 to {columns}, the width of the model's tables")
    if positions == "sinusoidal":
        raise InputError(
            f"embedding_size is {size}; the model adds sinusoids of its own width to its embeddings: leave it out"
        )
    if old.embeddings.norms_states:
        raise InputError(
            f"embedding_size is {size}; the model norms what the map of its tables gives, and no other map takes "
            "that gain in: leave it out"
        )
    if old.is_decoder and getattr(head, "tied", False):
        raise InputError(
            f"embedding_size is {size}; the decoder's head is tied to the word table, which must be as wide as the "
            "states: leave it out"
        )


def word_shares(model: Model) -> Float[Tensor, "vocabulary"]:
    """How likely each token is taken to be: half by its count in shipped speeches, half all equally.

    All equally where the model has no tokenizer.
    """
    vocabulary = model.architecture.embeddings.vocabulary_size
    counts = torch.zeros(vocabulary, dtype=torch.float64)
    for speech in islice(speeches(), _SPEECHES if model.tokenizer is not None else 0):
        ids = model.tokenizer(speech.text[:_CHARACTERS], truncation=False)["input_ids"][0]
        counts += torch.bincount(ids, minlength=vocabulary)[:vocabulary]
    equal = torch.full_like(counts, 1 / vocabulary)
    return equal if model.tokenizer is None else (equal + counts / counts.sum()) / 2


def factorise(
    old: Architecture, weights: Mapping[str, Tensor], size: int, shares: Float[Tensor, "vocabulary"]
) -> Factorised:
    """Tables of `size` columns and a map to the model's width, from the singular vectors of the tables.

    Of x, the sum of a word's, a position's and a type's row, words as likely as `shares` says, positions and types all
    equally, those directions P are kept in which E[x x^T] is largest: the matrix of the sums is U S P^T. The tables
    become W P, and P^T is the map. A layer norm takes the mean away: it stays a direction of its own (`hidden_map`),
    and the norm's gain goes into the map. So a token whose sum lies in these directions is read as before, and with
    `size` the tables' own width all are, by a map that changes nothing.
    """
    embeddings = old.embeddings
    columns, norm = embeddings.size, embeddings.norm
    tables = [name for name in weights if _is_table(name)]
    gain, bias = _gain_and_bias(old, weights)
    outer = _outer_map(old, weights)
    if size == columns:
        new = {} if embeddings.projection else _map_of(outer, weights)
        return Factorised(weights=new, basis=None, kept=1.0)
    centred = norm is not None and norm.kind == "layer"
    moment = _second_moment([(weights[name], shares if name == _WORDS else None) for name in tables], centred=centred)
    untied = moment + _UNTIED * moment.diagonal().mean() * torch.eye(columns, dtype=moment.dtype)
    basis = hidden_map(untied, size, chooses=False, centred=centred)
    # So that the deviation of a row's numbers, beside which the norm's eps stands, is as it was.
    scale = 1.0 if norm is None else (columns / size) ** 0.5
    matrix, added = outer
    projection = matrix @ (gain[:, None] * basis) * scale, matrix @ bias + added
    new = {name: through(weights[name].detach(), 1, basis / scale) for name in tables}
    new |= _map_of(projection, weights) | _plain_norm(old, weights, size)
    kept = float((basis.T @ moment @ basis).trace() / moment.trace().clamp(min=1e-300))
    return Factorised(weights=new, basis=basis, kept=min(kept, 1.0))


def _is_table(name: str) -> bool:
    return name.startswith(("embeddings.word.", "embeddings.position.", "embeddings.token_type."))


def _second_moment(
    tables: Sequence[tuple[Tensor, Tensor | None]], *, centred: bool
) -> Float[Tensor, "columns columns"]:
    """E[x x^T] of the sum x of a row of each table, in float64; centred: of x less the mean of its numbers.

    Beside a table stands how likely each of its rows is; None: all equally.
    """
    size = tables[0][0].shape[1]
    spread, mean = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for table, shares in tables:
        rows = table.detach().cpu().double()
        rows = rows - rows.mean(1, keepdim=True) if centred else rows
        likely = torch.full((len(rows), 1), 1 / len(rows), dtype=rows.dtype) if shares is None else shares[:, None]
        of_table = (likely * rows).sum(0)
        spread += (likely * rows).T @ rows - torch.outer(of_table, of_table)
        mean += of_table
    return spread + torch.outer(mean, mean)


def _gain_and_bias(old: Architecture, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the embeddings' norm multiplies with and adds."""
    size, norm = old.embeddings.size, old.embeddings.norm
    gain, bias = torch.ones(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    if norm is not None:
        gain = weights["embeddings.norm.weight"].cpu().double() + norm.offset
    return gain, weights["embeddings.norm.bias"].cpu().double() if "embeddings.norm.bias" in weights else bias


def _outer_map(old: Architecture, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The map behind the embeddings: the model's own, or one that changes nothing."""
    if old.embeddings.projection:
        return weights[f"{_PROJECTION}.weight"].cpu().double(), weights[f"{_PROJECTION}.bias"].cpu().double()
    return torch.eye(old.hidden_size, dtype=torch.float64), torch.zeros(old.hidden_size, dtype=torch.float64)


def _map_of(projection: tuple[Tensor, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    like = weights[_WORDS]
    return {f"{_PROJECTION}.weight": projection[0].to(like), f"{_PROJECTION}.bias": projection[1].to(like)}


def _plain_norm(old: Architecture, weights: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """The norm of the narrow embedding, which neither multiplies nor adds."""
    if old.embeddings.norm is None:
        return {}
    like = weights["embeddings.norm.weight"]
    new = {"embeddings.norm.weight": like.new_full((size,), 1 - old.embeddings.norm.offset)}
    return new | ({"embeddings.norm.bias": like.new_zeros(size)} if old.embeddings.norm.bias else {})
