"""Structures: which weights of a model share one score, and are kept or removed together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import InputError, quote
from gossamer.layers import FeedForwardNetwork, Linear
from gossamer.layers.masks import Block, spread, summed
from gossamer.layers.multi_head import MultiHeadMaps
from gossamer.models.model import Model

__all__ = ["STRUCTURES", "Units", "check_structures", "count_left", "find_units", "maps_of", "mean_scores", "remove"]

_LAYERS = ("attention", "cross_attention", "feed_forward")
_WHOLE = ("weight", "block", "layers")
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
    def part(self) -> str:
        """The name of the module that the map is of."""
        return self.map.rpartition(".")[0]

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
    general = [one for one in found if one in _WHOLE]
    if len(general) > 1:
        raise InputError(
            f"structure is {quote(structure)}; {' and '.join(general)} are of all parts of layers: take one of them"
        )
    if general and {"heads", "neurons"} <= set(found):
        raise InputError(
            f"structure is {quote(structure)}; heads and neurons are all that layers have, so that nothing is left for "
            f"{general[0]}: leave out one of the three"
        )
    return found


def find_units(model: Model, structures: tuple[str, ...], block: Block) -> list[Units]:
    """The units of a model's layers; embeddings and head have none.

    Neurons are of the feed-forward, heads of attention; weight, block and layers have what is left of the layers.
    Raises InputError where a map is not kept whole.
    """
    for stored in model.architecture.storages:
        raise InputError(
            f"maps of the model are kept {stored.storage.kind}; make them whole first, as gossamer.compact does, then "
            "prune"
        )
    found: list[Units] = []
    for name, part in model.named_modules():
        if name.partition(".")[0] in _LAYERS and isinstance(part, MultiHeadMaps | FeedForwardNetwork):
            own = "heads" if isinstance(part, MultiHeadMaps) else "neurons"
            chosen = own if own in structures else next((one for one in _WHOLE if one in structures), None)
            found += [] if chosen is None else STRUCTURES[chosen](name, part, block)
    return found


def _weights(name: str, part: nn.Module, block: Block) -> Iterator[Units]:
    """Every weight by itself."""
    return _blocks(name, part, (1, 1), "weight")


def _blocks(name: str, part: nn.Module, block: Block, structure: str = "block") -> Iterator[Units]:
    """Rectangles of weights (Lagunas et al. 2021, section 3.1); those at the far edges may be smaller."""
    for own, one in part.named_children():
        if isinstance(one, Linear):
            shape = one.out_features, one.in_features
            fitted = min(block[0], shape[0]), min(block[1], shape[1])
            yield Units(structure=structure, map=f"{name}.{own}", shape=shape, block=fitted)


def _neurons(name: str, part: nn.Module, block: Block) -> Iterator[Units]:
    """A column of `down` and the row of `up`, and of `gate`, that it reads."""
    return _slices("neurons", name, part, lambda maps: maps["down"].in_features)


def _heads(name: str, part: nn.Module, block: Block) -> Iterator[Units]:
    """The columns of `output` that read a head, and the rows of query, key and value that make it.

    Heads that share their keys are one unit (Ainslie et al. 2023, section 2.2).
    """
    assert isinstance(part, MultiHeadMaps)
    size = part.head_size
    return _slices("heads", name, part, lambda maps: maps["value"].out_features // size)


def _layers(name: str, part: nn.Module, block: Block) -> Iterator[Units]:
    """All of a layer's attention, or of its feed-forward, but the bias of its last map.

    Source: Xia et al. 2022 (CoFi, arXiv 2204.00408), section 3.1, z_MHA and z_FFN.
    """
    return _slices("layers", name, part, lambda maps: 1)


def _slices(
    structure: str, name: str, part: nn.Module, count: Callable[[Mapping[str, Linear]], int]
) -> Iterator[Units]:
    """The columns of a part's last map, and the rows of all others that lead to them, in equal slices."""
    maps = {own: one for own, one in part.named_children() if isinstance(one, Linear)}
    if maps:
        number, (*others, (last, one)) = count(maps), maps.items()
        shape = one.out_features, one.in_features
        yield Units(
            structure=structure, map=f"{name}.{last}", shape=shape, block=(shape[0], shape[1] // number),
            leading=tuple((f"{name}.{own}", other.out_features // number) for own, other in others),
        )  # fmt: skip


STRUCTURES: dict[str, Callable[[str, nn.Module, Block], Iterator[Units]]] = {
    "weight": _weights,
    "block": _blocks,
    "heads": _heads,
    "neurons": _neurons,
    "layers": _layers,
}


def maps_of(units: Iterable[Iterable[Units]]) -> list[str]:
    """All maps that units of some structures have weights in."""
    parts = [(one.map, *(name for name, _ in one.leading)) for some in units for one in some]
    return list(dict.fromkeys(name for names in parts for name in names))


def mean_scores(units: Units, scores: Mapping[str, Tensor]) -> Float[Tensor, "down beside"]:
    """Of each unit the mean of its weights' scores, those of the rows that lead to it among them.

    In float32 at least: sums and counts of a unit's weights are beyond what half precision holds.
    """
    own = _wide(scores[units.map])
    total, count = summed(own, units.block), summed(torch.ones_like(own), units.block)
    for name, high in units.leading:
        rows = _wide(scores[name])
        total = total + summed(rows, (high, rows.shape[1])).T
        count = count + high * rows.shape[1]
    return total / count


def _wide(scores: Tensor) -> Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


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
