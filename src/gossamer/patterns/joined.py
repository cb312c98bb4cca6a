"""What several patterns have together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gossamer.patterns.sums import least_common_multiple

if TYPE_CHECKING:
    from gossamer.patterns.base import Pattern

__all__ = ["joined_period", "joined_prefix"]


def joined_prefix(patterns: Iterable[Pattern]) -> int | None:
    """The prefix that several patterns have together."""
    prefixes = [one.prefix for one in patterns]
    return None if None in prefixes else max(one for one in prefixes if one is not None)


def joined_period(patterns: Iterable[Pattern]) -> int | None:
    """The period that several patterns have together."""
    joined = 1
    for one in patterns:
        if one.period is None:
            return None
        joined = least_common_multiple(joined, one.period)
    return joined
