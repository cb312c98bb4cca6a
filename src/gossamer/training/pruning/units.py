"""Structures: which weights of a model share one score, and are kept or removed together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.layers import FeedForwardNetwork, Linear
from gossamer.layers.masks import Block, spread, summed
from gossamer.layers.multi_head import MultiHeadMaps
from gossamer.models.model import Model

__all__ = ["STRUCTURES", "Units", "check_structures", "count_left", "find_units", "maps_of", "mean_scores", "remove"]

_LAYERS = ("attention", "cross_attention", "feed_forward")
_WHOLE = ("weight", "block")
"""Structures of any map; those of one part of a layer come before them there."""
_SHORT = {"hybrid": ("block", "neurons")}


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of one map: blocks of its weight [outputs, inputs], each kept or removed whole.

    leading: maps whose rows give what a column of units reads, and how many rows each unit has there. They lead
    nowhere without the unit, so that to mask it in this map alone gives the outputs of a model without all of it.
    """

    structure: str
    map: str
    shape: tuple[int, int]
    block: Block
    leading: tuple[tuple[str, int], ...] = ()

    @property
    def counts(self) -> tuple[int, int]:
        """How many units lie below and beside each other."""
        (rows, columns), (high, wide) = self.shape, self.block
        return -(-rows // high), -(-columns // wide)

    @property
    def number(self) -> int:
        """How many units there are."""
        return self.counts[0] * self.counts[1]


def check_structures(structure: object) -> tuple[str, ...]:
    """The structures that are named; InputError for others, and for two of the same maps."""
    names = (structure,) if isinstance(structure, str) else structure
    known = (*STRUCTURES, *_SHORT)
    if not isinstance(names, tuple | list) or not names or any(one not in known for one in names):
        raise InputError(f"structure is {quote(structure)}; it must be one or several of {', '.join(known)}")
    found = tuple(dict.fromkeys(part for one in names for part in _SHORT.get(one, (one,))))
    if set(_WHOLE) <= set(found):
        raise InputError(f"structure is {quote(structure)}; weight and block are both of all maps: take one of them")
    return found


def find_units(model: Model, structures: tuple[str, ...], block: Block) -> list[Units]:
    """The units of a model's layers; embeddings and head have none.

    Neurons are of the feed-forward, heads of attention; weight and block have what is left of the layers' maps. Raises
    InputError where a map is not kept whole, and where a structure has no map.
    """
    for stored in model.architecture.storages:
        raise InputError(f"maps of the model are kept {stored.storage.kind}; merge them first, then prune")
    found: list[Units] = []
    for name, part in model.named_modules():
        if name.partition(".")[0] in _LAYERS and isinstance(part, MultiHeadMaps | FeedForwardNetwork):
            own = "heads" if isinstance(part, MultiHeadMaps) else "neurons"
            chosen = own if own in structures else next((one for one in _WHOLE if one in structures), None)
            found += [] if chosen is None else STRUCTURES[chosen](name, part, block)
    return found


def _weights(name: str, part: torch.nn.Module, block: Block) -> Iterator[Units]:
    """Every weight by itself."""
    return _blocks(name, part, (1, 1), "weight")


def _blocks(name: str, part: torch.nn.Module, block: Block, structure: str = "block") -> Iterator[Units]:
    """Rectangles of weights (Lagunas et al. 2021, section 3.1); those at the far edges may be smaller."""
    for own, one in part.named_children():
        if isinstance(one, Linear):
            shape = one.out_features, one.in_features
            fitted = min(block[0], shape[0]), min(block[1], shape[1])
            yield Units(structure=structure, map=f"{name}.{own}", shape=shape, block=fitted)


def _neurons(name: str, part: torch.nn.Module, block: Block) -> Iterator[Units]:
    """A column of `down` and the row of `up`, and of `gate`, that it reads."""
    assert isinstance(part, FeedForwardNetwork)
    rows = tuple((f"{name}.{own}", 1) for own in ("up", "gate") if isinstance(getattr(part, own), Linear))
    yield _columns("neurons", f"{name}.down", part.down, 1, rows)


def _heads(name: str, part: torch.nn.Module, block: Block) -> Iterator[Units]:
    """The columns of `output` that read a head, and the rows of query, key and value that make it.

    Heads that share their keys are one unit (Ainslie et al. 2023, section 2.2).
    """
    assert isinstance(part, MultiHeadMaps)
    key_heads = part.key.out_features // part.head_size
    size = part.query.out_features // key_heads
    rows = [("query", size), ("key", part.head_size), ("value", part.head_size)]
    rows += [(f"{own}_global", count) for own, count in rows] if part.global_projections else []
    yield _columns("heads", f"{name}.output", part.output, size, tuple((f"{name}.{own}", n) for own, n in rows))


def _columns(structure: str, name: str, one: Linear, wide: int, rows: tuple[tuple[str, int], ...]) -> Units:
    shape = one.out_features, one.in_features
    return Units(structure=structure, map=name, shape=shape, block=(shape[0], wide), leading=rows)


STRUCTURES: dict[str, Callable[[str, torch.nn.Module, Block], Iterator[Units]]] = {
    "weight": _weights,
    "block": _blocks,
    "heads": _heads,
    "neurons": _neurons,
}


def maps_of(units: Iterable[Iterable[Units]]) -> list[str]:
    """All maps that units of some structures have weights in."""
    parts = [(one.map, *(name for name, _ in one.leading)) for some in units for one in some]
    return list(dict.fromkeys(name for names in parts for name in names))


def mean_scores(units: Units, scores: Mapping[str, Tensor]) -> Float[Tensor, "down beside"]:
    """Of each unit the mean of its weights' scores, those of the rows that lead to it among them."""
    own = scores[units.map]
    total, count = summed(own, units.block), summed(torch.ones_like(own), units.block)
    for name, high in units.leading:
        rows = scores[name]
        total = total + summed(rows, (high, rows.shape[1])).T
        count = count + high * rows.shape[1]
    return total / count


@torch.no_grad()
def remove(model: Model, units: Units, mask: Float[Tensor, "down beside"]) -> None:
    """Set to 0, in place, what the mask has a 0 for: blocks, and of the rows that lead to them weights and biases."""
    own = model.get_submodule(units.map)
    assert isinstance(own, Linear)
    own.weight.masked_fill_(spread(mask, units.block, units.shape) == 0, 0)
    for name, high in units.leading:
        one = model.get_submodule(name)
        assert isinstance(one, Linear)
        gone = mask.T.repeat_interleave(high, dim=0) == 0
        one.weight.masked_fill_(gone, 0)
        if one.bias is not None:
            one.bias.masked_fill_(gone[:, 0], 0)


def count_left(model: Model, units: Units) -> int:
    """How many units have a weight that is not 0."""
    own = model.get_submodule(units.map)
    assert isinstance(own, Linear)
    return int(summed(own.whole_weight().detach().abs(), units.block).count_nonzero())
