"""What a training prunes: a score, a structure and a schedule, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gossamer.checks import as_python, is_whole
from gossamer.errors import InputError, quote
from gossamer.models.checks import MOST_ROWS, require, require_choice, require_count, require_positive
from gossamer.models.model import Model
from gossamer.training.pruning.choice import by_structure, check_share
from gossamer.training.pruning.schedule import ScheduleName
from gossamer.training.pruning.scores import Ranking, Score
from gossamer.training.pruning.time_budget import TIMED, TimeBudget
from gossamer.training.pruning.time_table import TimeTable
from gossamer.training.pruning.units import Units, check_structures, find_units

__all__ = ["PruningSettings", "Scope", "Selection", "check_ranks"]

Scope = Literal["row", "layer", "global"]
KEEP = 0.1
"""The share of units that stays where nobody says how much."""


def check_ranks(score: str, *, in_training: bool = False) -> None:
    """InputError for a score whose penalty decides how much stays, beside a latency."""
    if not issubclass(Score.kinds[score], Ranking):
        able = {name: kind for name, kind in Score.kinds.items() if issubclass(kind, Ranking)}
        known = ", ".join(repr(name) for name, kind in able.items() if kind.in_training or not in_training)
        raise InputError(f"score is {quote(score)}, whose penalty decides what stays; with a latency take {known}")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is kept of a model's layers.

    structure: which weights are kept or removed together: "weight", "block", "heads", "neurons", "layers",
    "hybrid", or several.
    keep: the share of such units that stays, 0.1 unless given; or latency: the share of the model's time that the
    largest such share may take, by `times`, a table of each part's time at each number of its units, or the JSON file
    that holds one. scope: of each map by itself ("layer"), of each row of its units ("row"), or of all maps of a
    structure together ("global"). block: the rows and columns of a block.
    """

    structure: str | tuple[str, ...] = "weight"
    keep: float | None = None
    latency: float | None = None
    times: TimeTable | str | None = None
    scope: Scope = "layer"
    block: tuple[int, int] = (32, 32)

    def __post_init__(self) -> None:
        check_structures(self.structure)
        if isinstance(self.structure, list):
            object.__setattr__(self, "structure", tuple(self.structure))
        self._check_how_much()
        require_choice(self, Scope, "scope")
        whole = "'global': of structure 'layers' each part of a layer is one unit"
        require(self.scope == "global" or "layers" not in self.structures, "scope", self.scope, whole)
        pair = isinstance(self.block, tuple | list) and len(self.block) == 2
        fits = pair and all(is_whole(size, 1, MOST_ROWS) for size in self.block)
        require(fits, "block", self.block, "rows and columns, two whole numbers, such as (32, 32)")
        object.__setattr__(self, "block", tuple(map(int, self.block)))

    def _check_how_much(self) -> None:
        for name in ("keep", "latency"):
            object.__setattr__(self, name, as_python(getattr(self, name)))
        if self.latency is None:
            require(self.times is None, "times", self.times, "left out without a latency")
            object.__setattr__(self, "keep", KEEP if self.keep is None else self.keep)
            fits = type(self.keep) in (int, float) and 0 < self.share <= 1
            require(fits, "keep", self.keep, "a share of what is there, above 0, up to 1")
            return
        require(self.keep is None, "keep", self.keep, "left out where there is a latency")
        fits = type(self.latency) in (int, float) and 0 < self.latency <= 1
        require(fits, "latency", self.latency, "a share of the model's time, above 0, up to 1")
        if not set(self.structures) <= set(TIMED):
            raise InputError(
                f"structure is {quote(self.structure)}; single weights and blocks bring no time until whole rows are "
                f"empty: with a latency take {', '.join(TIMED)}, or give keep, then compact"
            )
        if isinstance(self.times, str):
            object.__setattr__(self, "times", TimeTable.read(self.times))

    @property
    def structures(self) -> tuple[str, ...]:
        """Those that are meant, "hybrid" as the two that it is."""
        return check_structures(self.structure)

    @property
    def share(self) -> float:
        """What stays: of the units, or, with a latency, of the time."""
        share = self.keep if self.latency is None else self.latency
        assert share is not None
        return share

    def units(self, model: Model) -> list[list[Units]]:
        """The units of each structure; InputError where `keep` leaves none of a map, or the model has none at all."""
        ranked = by_structure([one for one in find_units(model, self.structures, self.block) if one.number])
        if not ranked:
            raise InputError(f"structure is {quote(self.structure)}; no layer of the model has any of it left")
        for some in ranked if self.latency is None else ():
            check_share(some, self.share, self.scope)
        return ranked

    def budget(self, model: Model, units: Sequence[Sequence[Units]]) -> TimeBudget | None:
        """What these units cost, None without a latency; InputError for one that cannot be had, or without times."""
        if self.latency is None:
            return None
        measured = "a table of the model's times, or the name of its JSON file; gossamer.prune measures one"
        if not isinstance(self.times, TimeTable):
            raise InputError(f"pruning.times is {quote(self.times)}; with a latency it must be {measured}")
        self.times.check(model.architecture)
        budget = TimeBudget(table=self.times, units=units, scope=self.scope)
        budget.check(self.latency)
        return budget


@dataclass(frozen=True, kw_only=True)
class PruningSettings(Selection):
    """While a model learns, its layers lose units until the share that is kept stays, of units or time; all else is 0.

    score: what tells which: "movement", "soft-movement", "l0", "magnitude", "random", or "zeros", which keeps what is
    not 0 as the training begins, each weight by itself, whatever the other settings.

    schedule: "cubic", "linear", or "one-shot" after the warm-up. warmup, cooldown: steps, or the share of all steps, in
    which everything is kept, and in which no more than in the end. every: how many steps pass from one look at the
    scores to the next. learning_rate: of scores that are learnt; it rises and falls with that of the weights. penalty:
    the weight of the mean of what a score says of each unit, for "soft-movement" and "l0"; their own unless given.
    threshold: what the sigmoid of a score has to exceed in "soft-movement".

    A score that has no use for `scope` ("soft-movement", "l0"), `every` ("l0") or `learning_rate` leaves it unread, so
    that one config compares them all.
    """

    score: str = "movement"
    schedule: ScheduleName = "cubic"
    warmup: int | float = 0.1
    cooldown: int | float = 0.2
    every: int = 1
    learning_rate: float = 1e-2
    penalty: float | None = None
    threshold: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [name for name, kind in Score.kinds.items() if kind.in_training]
        require(self.score in known, "score", self.score, f"one of {', '.join(map(repr, known))}")
        if self.latency is not None and not Score.kinds[self.score].is_settled:
            check_ranks(self.score, in_training=True)
        require_choice(self, ScheduleName, "schedule")
        for name in ("warmup", "cooldown"):
            value = getattr(self, name)
            fits = is_whole(value, 0, MOST_ROWS) or (type(value) is float and 0 <= value < 1)
            require(fits, name, value, "a whole number of steps, or a share of them from 0 up to, not including, 1")
        require_count(self, "every", most=MOST_ROWS)
        require_positive(self, "learning_rate")
        self._check_penalty()

    def _check_penalty(self) -> None:
        kind = Score.kinds[self.score]
        if self.penalty is not None:
            has_one = kind.penalty_weight is not None
            require(has_one, "penalty", self.penalty, f"left out: {self.score} has none")
            require_positive(self, "penalty", zero=True)
        fits = type(self.threshold) in (int, float) and 0 < self.threshold < 1
        require(fits, "threshold", self.threshold, "a number between 0 and 1")
