"""How sure a difference of two methods is, where both were judged on the same examples or with the same seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from gossamer.checks import is_finite
from gossamer.errors import InputError, quote
from gossamer.metrics.estimate import Groups, Values, estimate_mean, number_groups, read_values

__all__ = ["PairedDifference", "paired_difference"]

_LARGE = 200  # degrees of freedom from which on the series in 1 / freedom is right to 1e-9


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The mean of a - b over `count` pairs in independent `groups`, and the interval of that level about it."""

    value: float
    standard_error: float
    low: float
    high: float
    level: float
    count: int
    groups: int

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.level:.0%} interval {self.low:+.4f} to {self.high:+.4f})"


def paired_difference(
    a: Values, b: Values, groups: Groups | None = None, *, level: float = 0.95
) -> PairedDifference | None:
    """The mean of a - b with its interval of Student's paired t, over `a` and `b` [n] of the same examples or seeds.

    groups: n labels; pairs of one group are not independent, and the standard error is `estimate_mean`'s. None for one
    pair or one group: how far others would lie is unknown. The degrees of freedom are the groups less one. Sources:
    Student 1908; Liang and Zeger 1986 for groups. Raises InputError for vectors that differ in length, NaN and
    infinities, and a level not between 0 and 1.
    """
    if not is_finite(level) or not 0 < level < 1:
        raise InputError(f"level is {quote(level)}; it must be between 0 and 1, such as 0.95")
    first, second = read_values("a", a), read_values("b", b)
    if len(first) != len(second):
        raise InputError(f"{len(first)} values against {len(second)}; a difference is of pairs: give as many")
    independent = len(first) if groups is None else int(number_groups(groups, len(first)).max()) + 1
    if independent < 2:
        return None
    mean = estimate_mean(first - second, groups)
    reach = t_quantile((1 + level) / 2, independent - 1) * mean.standard_error
    return PairedDifference(
        value=mean.value, standard_error=mean.standard_error, low=mean.value - reach, high=mean.value + reach,
        level=level, count=mean.count, groups=independent,
    )  # fmt: skip


def t_quantile(probability: float, freedom: int) -> float:
    """The value below which Student's t of `freedom` degrees is with `probability`, 0.5 or more.

    Sources: Abramowitz and Stegun 26.7.3 and 26.7.4, solved by bisection; 26.7.5 for many degrees of freedom.
    """
    z = NormalDist().inv_cdf(probability)
    if freedom > _LARGE:
        terms = (
            z,
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        )
        return sum(term / freedom**power for power, term in enumerate(terms))
    low, high = 0.0, math.pi / 2  # of the angle atan(t / sqrt(freedom))
    for _ in range(60):
        angle = (low + high) / 2
        low, high = (angle, high) if _inside(angle, freedom) < 2 * probability - 1 else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _inside(angle: float, freedom: int) -> float:
    """The probability that |t| is below sqrt(freedom) * tan(angle)."""
    odd, cosine = freedom % 2, math.cos(angle)
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (power - 1) / power
    total = math.sin(angle) * total
    return 2 / math.pi * (angle + total) if odd else total
