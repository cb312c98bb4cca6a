"""Which hidden dimensions, heads and neurons of a model matter most, and its tensors through a map of their sides."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError

__all__ = ["Weights", "blocks_of", "chosen_columns", "hidden_map", "inner_maps", "mapped", "sides_of", "through"]

Weights = Mapping[str, Tensor]

_HIDDEN, _TABLE = "hidden", "table"
_SIDES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"embeddings\.(?:word|token_type|position(?:\.\d+)?)\.weight", ("", _TABLE)),
    (r"embeddings\.norm\.(?:weight|bias)", (_TABLE,)),
    (r"embeddings\.projection\.weight", (_HIDDEN, _TABLE)),
    (r"embeddings\.projection\.bias", (_HIDDEN,)),
    (r"attention\.(\d+)\.query(?:_global)?\.(?:weight|bias)", ("queries.{}", _HIDDEN)),
    (r"attention\.(\d+)\.key(?:_global)?\.(?:weight|bias)", ("keys.{}", _HIDDEN)),
    (r"attention\.(\d+)\.relative_query\.(?:weight|bias)", ("queries.{}", _HIDDEN)),
    (r"attention\.(\d+)\.relative_key\.(?:weight|bias)", ("keys.{}", _HIDDEN)),
    (r"attention\.(\d+)\.value(?:_global)?\.(?:weight|bias)", ("values.{}", _HIDDEN)),
    (r"attention\.(\d+)\.(?:query|key)_norm\.(?:weight|bias)", ("",)),
    (r"attention\.(\d+)\.output\.(?:weight|bias)", (_HIDDEN, "heads.{}")),
    (r"feed_forward\.(\d+)\.(?:up|gate)\.(?:weight|bias)", ("widths.{}", _HIDDEN)),
    (r"feed_forward\.(\d+)\.down\.(?:weight|bias)", (_HIDDEN, "widths.{}")),
    (r"(?:attention|feed_forward)\.\d+\.(?:norm|output_norm)\.(?:weight|bias)", (_HIDDEN,)),
    (r"final_norm\.(?:weight|bias)", (_HIDDEN,)),
    (r"distance_bias\.\d+\.weight", ("", "")),
    (r"distance_bias\.\d+\.states", ("", _HIDDEN)),
    (r"distance_bias\.\d+\.norm\.(?:weight|bias)", (_HIDDEN,)),
    (r"pooler\.(?:weight|bias)", ("pooler", _HIDDEN)),
    (r"head\.pair\.dense\.(?:weight|bias)", ("pair", _HIDDEN)),
    (r"head\.pair\.output\.(?:weight|bias)", ("", "pair")),
    (r"head\.dense\.0\.(?:weight|bias)", ("", _HIDDEN)),
    (r"head\.dense\.\d+\.(?:weight|bias)", ("", "")),
    (r"head\.bias", ("",)),
    (r"head\.dense\.(?:weight|bias)", ("inner", _HIDDEN)),
    (r"head\.norm\.(?:weight|bias)", ("inner",)),
    (r"head\.(?:output|decoder)\.(?:weight|bias)", ("", "inner")),
)
"""What rows and columns of each tensor are: states, a table's columns, columns of heads, neurons; "" for none of it.

"inner" is what a head has between its two maps: its own, or the table's columns where the second is the word table, or
the states where there is one map alone.
"""


def sides_of(name: str) -> tuple[str, ...]:
    """Of each dimension of a tensor what it counts. Raises InputError for a tensor that is not known."""
    for pattern, sides in _SIDES:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return tuple(side.format(*match.groups()) for side in sides)
    raise InputError(f"the teacher has the tensor {name}, which is not known to be made narrower: leave out widths")


def through(tensor: Tensor, dimension: int, by: Tensor) -> Tensor:
    """One dimension through a map: whole numbers choose from it, a matrix [old, new] takes it to the new one."""
    # In float64, which not every device has.
    there, by = tensor.cpu(), by.cpu()
    if by.ndim == 1:
        return there.index_select(dimension, by).to(tensor.device)
    product = torch.tensordot(there.to(by.dtype), by, dims=([dimension], [0]))
    return product.movedim(-1, dimension).to(tensor.dtype).to(tensor.device)


def mapped(name: str, tensor: Tensor, maps: Mapping[str, Tensor]) -> Tensor:
    """A tensor through the maps P of its sides; a norm's gain is the diagonal of `P^T diag(gain) P`."""
    for dimension, side in enumerate(sides_of(name)[: tensor.ndim]):
        by = maps.get(side)
        if by is not None:
            is_gain = name.endswith("norm.weight") and by.ndim == 2
            tensor = through(tensor, dimension, by.square() if is_gain else by)
    return tensor.contiguous()


def chosen_columns(weights: Weights, name: str, size: int, count: int) -> Tensor:
    """Of a map's columns, in blocks of `size`, the blocks of the largest norms, in their order."""
    return _largest(weights[name].cpu().double().unflatten(1, (-1, size)).square().sum((0, 2)), count)


def blocks_of(chosen: Tensor, size: int) -> Tensor:
    """The columns of these blocks of `size`."""
    return (chosen[:, None] * size + torch.arange(size)).flatten()


def inner_maps(
    weights: Weights, count: int, *, hidden: Tensor, table: Tensor | None, reads_table: bool
) -> dict[str, Tensor]:
    """The maps of what lies behind an activation, which turns no direction into another: columns are chosen.

    Those count that the next map reads most; of a pooler that none reads, those that its own weights make largest. What
    is compared with the word table has the map of its columns, None where these stay.
    """
    maps: dict[str, Tensor] = {}
    if "head.dense.weight" not in weights:
        maps["inner"] = hidden
    elif reads_table:
        maps |= {} if table is None else {"inner": table}
    elif "head.output.weight" in weights:
        maps["inner"] = chosen_columns(weights, "head.output.weight", 1, count)
    if "head.pair.output.weight" in weights:
        maps["pair"] = chosen_columns(weights, "head.pair.output.weight", 1, count)
    if "pooler.weight" in weights:
        maps["pooler"] = _largest(weights["pooler.weight"].cpu().double().square().sum(1), count)
    return maps


def hidden_map(gram: Float[Tensor, "hidden hidden"], count: int, *, chooses: bool, centred: bool) -> Tensor:
    """Of the second moments of states the largest dimensions, or the map [old, new] to the leading directions.

    The map is orthonormal. centred: the direction of the mean is one of its own, and goes to that of the new mean, so
    that a layer norm, which takes the mean away, does so of the same numbers.
    """
    if chooses:
        return _largest(gram.diagonal(), count)
    if not centred:
        return torch.linalg.eigh(gram).eigenvectors[:, -count:]
    size = len(gram)
    mean = gram.new_full((size, 1), size**-0.5)
    rest = gram - mean @ (mean.T @ gram)
    rest = rest - (rest @ mean) @ mean.T
    others = torch.linalg.eigh(rest).eigenvectors[:, size - count + 1 :]
    return torch.cat([mean, others], dim=1) @ _reflection(gram.new_full((count, 1), count**-0.5))


def _reflection(axis: Float[Tensor, "size 1"]) -> Float[Tensor, "size size"]:
    """The Householder reflection that exchanges the first axis and this one, of length 1."""
    turned = axis.clone()
    turned[0] -= 1
    length = turned.square().sum()
    whole = torch.eye(len(axis), dtype=axis.dtype, device=axis.device)
    return whole if length == 0 else whole - 2 * turned @ turned.T / length


def _largest(norms: Float[Tensor, "all"], count: int) -> Tensor:
    """Where the largest are, in their order; of equal ones the first."""
    return norms.sort(descending=True, stable=True).indices[:count].sort().values
