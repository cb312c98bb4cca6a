"""How long each part of a model takes at each number of its units: measured once, then read at every choice of them."""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from gossamer.checks import is_finite, is_whole, require
from gossamer.errors import InputError
from gossamer.models.architecture import Architecture
from gossamer.models.checks import MOST_COLUMNS

__all__ = ["MODEL", "PartTimes", "TimeTable", "digest_of_layers", "part_sizes"]

MODEL = "model"
"""The condition under which a table's model is noted, by its digest."""


def digest_of_layers(architecture: Architecture) -> str:
    """The same for all models whose layers are described alike, whatever their words and heads."""
    described = architecture.to_dict()
    told = {name: described[name] for name in ("hidden_size", "layers")} | {"length": architecture.length}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def part_sizes(architecture: Architecture) -> dict[str, int]:
    """The units of each weight set: heads of keys in "attention.0", neurons in "feed_forward.0"; those without none."""
    sizes: dict[str, int] = {}
    for layer in architecture.layers:
        sizes[f"attention.{layer.attention.weights}"] = layer.attention.key_heads or layer.attention.heads
        sizes[f"feed_forward.{layer.feed_forward.weights}"] = layer.feed_forward.width
    return {name: size for name, size in sorted(sizes.items()) if size}


@dataclass(frozen=True, kw_only=True)
class PartTimes:
    """Milliseconds of a part with so many of its units, from none to all; between two of them lies a straight line.

    Both rise. Raises InputError for what is no such table.
    """

    units: tuple[int, ...]
    milliseconds: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("units", "milliseconds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        rises = all(low < high for low, high in pairwise(self.units))
        whole = all(is_whole(number, 0, MOST_COLUMNS) for number in self.units)
        fits = whole and rises and len(self.units) > 1 and self.units[0] == 0
        require(fits, "units", list(self.units), "two or more numbers of units that rise from 0")
        fits = len(self.units) == len(self.milliseconds) and all(map(is_finite, self.milliseconds))
        require(fits, "milliseconds", list(self.milliseconds), f"{len(self.units)} numbers, one for each of units")
        rises = self.milliseconds[0] >= 0 and all(low <= high for low, high in pairwise(self.milliseconds))
        require(rises, "milliseconds", list(self.milliseconds), "0 or more, and never less for more units")

    @classmethod
    def of_measured(cls, units: Sequence[int], milliseconds: Iterable[float]) -> PartTimes:
        """Of times with noise: more units never take less, nor any less than nothing."""
        return cls(units=tuple(units), milliseconds=tuple(accumulate((max(0.0, one) for one in milliseconds), max)))

    @property
    def all(self) -> int:
        """The units of the whole part."""
        return self.units[-1]

    def at(self, units: float) -> float:
        """Milliseconds with so many units."""
        above = bisect_right(self.units, units)
        if above == len(self.units):
            return self.milliseconds[-1]
        low, high = self.units[above - 1], self.units[above]
        less, more = self.milliseconds[above - 1], self.milliseconds[above]
        return min(more, less + (more - less) * (units - low) / (high - low))  # rounding rises no higher


@dataclass(frozen=True, kw_only=True)
class TimeTable:
    """What a model takes, part by part. parts: by the name of the module, of all layers that use it together.

    rest: milliseconds of what no part is: embeddings, norms, the head. conditions: under what they were measured.
    """

    parts: dict[str, PartTimes]
    rest: float
    conditions: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(is_finite(self.rest) and self.rest >= 0, "rest", self.rest, "milliseconds, 0 or more")
        require(self.milliseconds({}) > 0, "rest", self.rest, "above 0 where no part takes any time")

    @classmethod
    def read(cls, path: str | Path) -> TimeTable:
        """From a JSON file, as `gossamer.prune` writes it. InputError for a file that is no such table."""
        from gossamer.training.config.reading import read_settings  # its package imports the settings with a table

        allowed = "name a latency.json that gossamer.prune wrote for this model"
        try:
            fields = json.loads(Path(os.path.expanduser(path)).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as problem:
            why = getattr(problem, "strerror", None) or "is no JSON"
            raise InputError(f"{path}: {why}; {allowed}") from None
        try:
            return read_settings(cls, fields)
        except InputError as problem:
            raise InputError(f"{path}: {problem}; {allowed}") from None

    def check(self, architecture: Architecture) -> None:
        """InputError for the table of a model with other parts, or parts of other widths."""
        measured = self.conditions.get(MODEL)
        require(
            measured in (None, digest_of_layers(architecture)), "the model of the table of times", measured,
            f"{digest_of_layers(architecture)}, which is this one's: take its own table",
        )  # fmt: skip
        ours, theirs = part_sizes(architecture), {name: times.all for name, times in self.parts.items()}
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                raise InputError(
                    f"the table of times is another model's: {name} has {ours.get(name, 0):,} units, there "
                    f"{theirs.get(name, 0):,}; take this model's own"
                )

    def milliseconds(self, left: Mapping[str, tuple[int, int]]) -> float:
        """Of the model with so many of so many equal slices of some parts, and all of the others."""
        return self.rest + sum(
            times.at(times.all if name not in left else left[name][0] * times.all / left[name][1])
            for name, times in self.parts.items()
        )
