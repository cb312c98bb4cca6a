"""How far a pattern's queries see, where that is bounded: what a layer that runs over a slice of a text has to read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Reach", "joined_reach"]


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Keys at most so many tokens `before` a query and `after` it, and the `first` of its document.

    block: positions that all move by a multiple of it look alike, but for the first.
    """

    before: int = 0
    after: int = 0
    first: int = 0
    block: int = 1


def joined_reach(several: Iterable[Reach | None]) -> Reach | None:
    """How far several patterns see together."""
    found = list(several)
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return None
    return Reach(
        before=max(one.before for one in known), after=max(one.after for one in known),
        first=max(one.first for one in known), block=math.lcm(*(one.block for one in known)),
    )  # fmt: skip
