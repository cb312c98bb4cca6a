"""Low-rank adapters of a training: the model's own weights stay, small additions to some of its maps learn."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

import torch

from gossamer.errors import InputError, quote
from gossamer.layers import Linear, LowRank
from gossamer.models.architecture import Architecture, StoredMaps
from gossamer.models.checks import MOST_ROWS, require, require_count, require_flag, require_positive, require_rate
from gossamer.models.model import Model

__all__ = ["AdapterSettings", "adapt", "adapted", "adapted_maps", "learning_names"]

_LAYERS = ("attention", "cross_attention", "feed_forward")


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """To the weight of each of these maps alpha / rank x b a is added; a [rank, inputs] and b [outputs, rank] learn.

    `maps`: names of maps in the layers, "query" for those of all layers, "attention.0.query" for one. `head`: whether
    the head learns too, whole; all else stays as it is. `dropout`: of what an addition reads, each by itself, while the
    map's own weight reads all of it. Source: Hu et al. 2021 (LoRA, arXiv 2106.09685), section 4.1, which adapts query
    and value.
    """

    rank: int = 8
    alpha: float = 16.0
    maps: tuple[str, ...] = ("query", "value")
    head: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_count(self, "rank", most=MOST_ROWS)
        require_positive(self, "alpha")
        require_flag(self, "head")
        require_rate(self, "dropout")
        require(len(self.maps) > 0, "maps", self.maps, "names of maps, such as query")

    @property
    def storage(self) -> LowRank:
        """How an adapted map keeps its weight."""
        return LowRank(rank=self.rank, scale=self.alpha / self.rank, dropout=self.dropout)


def adapted_maps(model: Model, settings: AdapterSettings) -> tuple[str, ...]:
    """The maps that the settings name, sorted; InputError for a name of none, and for maps that cannot be adapted."""
    if model.architecture.storages:
        kept = model.architecture.storages[0].storage.kind
        raise InputError(f"model.adapters is given, but maps of the model are kept {kept} already; merge them first")
    maps = {name: one for name, one in model.named_modules() if isinstance(one, Linear) and _is_in_layers(name)}
    found: set[str] = set()
    for i, wanted in enumerate(settings.maps):
        named = {name for name in maps if f".{name}".endswith(f".{wanted}")}
        if not named:
            known = ", ".join(sorted({name.rpartition(".")[2] for name in maps}))
            raise InputError(
                f"model.adapters.maps[{i}] is {quote(wanted)}; the layers have no map of that name, but {known}"
            )
        found |= named
    for name in sorted(found):
        most = min(maps[name].in_features, maps[name].out_features)
        if settings.rank > most:
            raise InputError(f"model.adapters.rank is {settings.rank}; the map {name!r} has rank {most} at most")
    return tuple(sorted(found))


def adapted(architecture: Architecture, maps: tuple[str, ...], settings: AdapterSettings) -> Architecture:
    """The same model with these maps adapted."""
    return dataclasses.replace(architecture, storages=(StoredMaps(maps=maps, storage=settings.storage),))


def adapt(model: Model, settings: AdapterSettings, seed: int) -> None:
    """Adapt the maps of a model in place, drawn by this seed; its outputs stay the same until the additions learn."""
    maps = adapted_maps(model, settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in maps:
            cast(Linear, model.get_submodule(name)).store(settings.storage)
    model.architecture = adapted(model.architecture, maps, settings)


def learning_names(model: Model, settings: AdapterSettings) -> set[str]:
    """The names of the parameters of an adapted model that learn."""
    maps = {name for stored in model.architecture.storages for name in stored.maps}
    names = [name for name, _ in model.named_parameters()]
    additions = {
        name for name in names if name.rpartition(".")[0] in maps and name.rpartition(".")[2] not in LowRank.frozen
    }
    return additions | {name for name in names if settings.head and name.startswith("head.")}


def _is_in_layers(name: str) -> bool:
    return name.removeprefix("decoder.").partition(".")[0] in _LAYERS
