"""What was promised against what was measured: every goal holds, falls short, or was not measured; none is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from contestants import AUTO, BLOCKED, CPU, FLEX, LONGFORMER, SDPA
from harness import paired_ratio
from peak_memory import exponent

DIRECTIONS = ("forward", "forward + backward")
LINEAR = 1.1
"""Largest exponent of memory over length that counts as linear: fixed costs bend the fit a little either way."""

LONG = 2048
"""From here on memory's growth is judged: below, fixed costs are most of it."""

Records = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Verdict:
    """A goal, what was measured, and whether it holds (None: not measured in this run)."""

    goal: str
    measured: str
    holds: bool | None

    @property
    def word(self) -> str:
        return {True: "holds", False: "falls short", None: "not measured"}[self.holds]


def ratios(times: Records, slow: str, fast: str, direction: str, *, section: str = "wall") -> dict[int, float]:
    """How many times as long `slow` takes as `fast`, by length, float32."""
    found: dict[tuple[str, int], dict[int, float]] = {
        (t["name"], t["n"]): {int(r): s for r, s in t["samples"].items()}
        for t in times
        if (t["section"], t["dtype"], t["direction"]) == (section, "float32", direction)
    }
    lengths = sorted(n for name, n in found if name == slow and (fast, n) in found)
    return {n: paired_ratio(found[slow, n], found[fast, n]) for n in lengths}


def verdicts(times: Records, memory: Records) -> list[Verdict]:
    return [
        *_longformer(times, CPU, (14, 10)),
        *_longformer(times, BLOCKED, (4, 4)),
        *_flex(times, CPU, 2.5),
        *_flex(times, BLOCKED, 0.95),
        *_same_mask(times),
        *_linear(memory),
    ]


def _short(name: str) -> str:
    return name.removeprefix("gossamer ")


def _longformer(times: Records, name: str, least: tuple[float, float]) -> Iterator[Verdict]:
    for direction, wanted in zip(DIRECTIONS, least, strict=True):
        ratio = ratios(times, LONGFORMER, name, direction).get(4096)
        goal = f"{_short(name)} at least {wanted:g}x transformers' Longformer core, {direction}, n = 4,096"
        yield Verdict(goal, f"{ratio:.1f}x" if ratio else "", None if ratio is None else ratio >= wanted)


def _flex(times: Records, name: str, least: float) -> Iterator[Verdict]:
    found = ratios(times, FLEX, name, "forward")
    at, goal = found.get(4096), f"{_short(name)} at least {least:g}x compiled FlexAttention, forward, "
    yield Verdict(f"{goal}n = 4,096", f"{at:.2f}x" if at else "", None if at is None else at >= least)
    yield _worst(f"{goal}every n", found, least, "x")


def _same_mask(times: Records) -> Iterator[Verdict]:
    """As the speed of auto over that of SDPA: 10% slower is 1 / 1.1."""
    for direction in DIRECTIONS:
        goal = f"auto never over 10% slower than SDPA given the same mask, {direction}, every n"
        yield _worst(goal, ratios(times, SDPA, AUTO, direction), 1 / 1.1, "x its speed")


def _worst(goal: str, found: dict[int, float], least: float, unit: str) -> Verdict:
    if not found:
        return Verdict(goal, "", None)
    worst = min(found, key=lambda n: found[n])
    return Verdict(goal, f"worst {found[worst]:.2f}{unit}, at n = {worst:,}", found[worst] >= least)


def _linear(memory: Records) -> Iterator[Verdict]:
    for name in (CPU, BLOCKED):
        for direction in DIRECTIONS:
            mine = [m for m in memory if (m["name"], m["direction"]) == (name, direction) and m["n"] >= LONG]
            grown = {m["n"]: m["extra"] for m in mine}
            goal = f"{_short(name)}: peak memory linear in n, {direction}"
            if len(grown) < 2 or not all(grown.values()):
                yield Verdict(goal, "", None)
                continue
            slope = exponent(list(grown), list(grown.values()))
            span = f"{min(grown):,} to {max(grown):,}"
            yield Verdict(goal, f"n^{slope:.2f} from {span} (up to n^{LINEAR} counts)", slope <= LINEAR)
