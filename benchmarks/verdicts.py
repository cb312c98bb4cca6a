"""What was promised against what was measured: every goal holds, falls short, or was not measured; none is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from contestants import AUTO, BLOCKED, CPU, FLEX, LONGFORMER, SDPA
from encoder_models import OURS, THEIRS
from grid import CPU_TIME, FLOAT, GROWING, HALF, WALL
from harness import paired_ratio
from peak_memory import exponent
from peaks import PEAKS, peak_names
from shapes import DENSE, DIRECTIONS

FORWARD, BOTH = DIRECTIONS
WINDOW = "window 512"
LINEAR = 1.1
"""Largest exponent of memory over length that counts as linear: fixed costs bend the fit a little either way."""
LONG = 2048
"""From here on memory's growth is judged: below, fixed costs are most of it."""
DENSIFIED = 1.5
"""A pattern whose time grows so much faster than its pairs, from 4,096 to 65,536 tokens, would be computing others."""

Record = dict[str, Any]
Records = Sequence[Record]


@dataclass(frozen=True)
class Verdict:
    """A goal, what was measured, and whether it holds (None: not measured in this run)."""

    goal: str
    measured: str
    holds: bool | None

    @property
    def word(self) -> str:
        return {True: "holds", False: "falls short", None: "not measured"}[self.holds]


def verdicts(times: Records, memory: Records) -> list[Verdict]:
    """The goals of the compiled kernel, in its issue's order, then those of `blocked` and `auto`."""
    return [
        *_of_peak(times, FLOAT, FORWARD, {WINDOW: 0.78, DENSE: 0.88}),
        *_of_peak(times, HALF, FORWARD, {WINDOW: 0.72, DENSE: 0.85}),
        *_of_peak(times, FLOAT, BOTH, {WINDOW: 0.75, DENSE: 0.75}),
        *_half_backward(times),
        *_narrow_window(times),
        *_times_as_fast(times, FLEX, CPU, WINDOW, FORWARD, {FLOAT: 2.5, HALF: 5}),
        *_times_as_fast(times, SDPA, CPU, DENSE, FORWARD, {FLOAT: 1.3, HALF: 1.3}),
        *_times_as_fast(times, SDPA, CPU, DENSE, BOTH, {FLOAT: 1.3, HALF: 1.3}),
        *_times_as_fast(times, LONGFORMER, CPU, WINDOW, FORWARD, {FLOAT: 14}),
        *_times_as_fast(times, LONGFORMER, CPU, WINDOW, BOTH, {FLOAT: 10}),
        *whole_model(times, memory),
        *_times_as_fast(times, SDPA, AUTO, DENSE, FORWARD, {FLOAT: 1, HALF: 1}, n=32),
        *_growth(times),
        *_linear(memory, CPU),
        *_times_as_fast(times, LONGFORMER, BLOCKED, WINDOW, FORWARD, {FLOAT: 4}),
        *_times_as_fast(times, LONGFORMER, BLOCKED, WINDOW, BOTH, {FLOAT: 4}),
        *_times_as_fast(times, FLEX, BLOCKED, WINDOW, FORWARD, {FLOAT: 0.95}),
        *_same_mask(times),
        *_linear(memory, BLOCKED),
    ]


def find(times: Records, **wanted: Any) -> Record | None:
    """The one record with these values."""
    return next((t for t in times if all(t.get(name) == value for name, value in wanted.items())), None)


def samples(record: Record) -> dict[int, float]:
    """Seconds by round, whether or not the record went through a file."""
    return {int(r): seconds for r, seconds in record["samples"].items()}


def ratio(times: Records, slow: str, fast: str, **wanted: Any) -> float | None:
    """How many times as long `slow` takes as `fast` in one case."""
    one, other = (find(times, name=name, **wanted) for name in (slow, fast))
    return paired_ratio(samples(one), samples(other)) if one and other else None


def of_peak(times: Records, record: Record, names: Sequence[str] | None = None) -> tuple[float, str] | None:
    """A record's rate as a fraction of the highest peak in the same rounds, and which peak that is."""
    where = {key: record[key] for key in ("shape", "n", "dtype", "direction", "clock")}
    names = peak_names(record["dtype"]) if names is None else names
    peaks = [peak for name in names if (peak := find(times, name=name, **where))]
    if not peaks:
        return None
    best = max(peaks, key=lambda peak: peak["gflops"])
    return record["gflop"] * paired_ratio(samples(best), samples(record)), best["name"].removeprefix("peak: ")


def short(name: str) -> str:
    return name.removeprefix("gossamer ")


def _of_peak(times: Records, dtype: str, direction: str, least: dict[str, float]) -> Iterator[Verdict]:
    for shape, wanted in least.items():
        goal = f"{dtype} {direction}, {shape}, n = 4,096: at least {wanted:g} of the peak (one thread)"
        record = find(times, name=CPU, shape=shape, n=4096, dtype=dtype, direction=direction, clock=CPU_TIME)
        found = of_peak(times, record) if record else None
        yield Verdict(goal, f"{found[0]:.3f} of {found[1]}" if found else "", found[0] >= wanted if found else None)


def _rate(times: Records, shape: str, dtype: str, direction: str) -> float | None:
    """In parts of the float32 peak of the same rounds, so that cases measured at different times compare."""
    record = find(times, name=CPU, shape=shape, n=4096, dtype=dtype, direction=direction, clock=CPU_TIME)
    found = of_peak(times, record, [PEAKS_FLOAT]) if record else None
    return found[0] if found else None


PEAKS_FLOAT = next(iter(PEAKS.values()))


def _half_backward(times: Records) -> Iterator[Verdict]:
    for shape in (WINDOW, DENSE):
        half, single = (_rate(times, shape, dtype, BOTH) for dtype in (HALF, FLOAT))
        goal = f"bfloat16 {BOTH}, {shape}, n = 4,096: at least 1.6x the float32 one (one thread)"
        yield _at_least(goal, half / single if half and single else None, 1.6)


def _narrow_window(times: Records) -> Iterator[Verdict]:
    for dtype in (FLOAT, HALF):
        for direction in DIRECTIONS:
            narrow, wide = (_rate(times, shape, dtype, direction) for shape in ("window 64", WINDOW))
            goal = f"window 64, {dtype} {direction}: at least 0.5x the rate of window 512 (one thread)"
            yield _at_least(goal, narrow / wide if narrow and wide else None, 0.5)


def _times_as_fast(
    times: Records, peer: str, name: str, shape: str, direction: str, least: dict[str, float], n: int = 4096
) -> Iterator[Verdict]:
    """Judged by all threads' time on the wall; one thread's is told beside it."""
    for dtype, wanted in least.items():
        where = {"shape": shape, "n": n, "dtype": dtype, "direction": direction}
        wall, single = (ratio(times, peer, name, clock=clock, **where) for clock in (WALL, CPU_TIME))
        verdict = _at_least(
            f"{short(name)} at least {wanted:g}x {peer}, {shape}, {dtype} {direction}, n = {n:,}", wall, wanted
        )
        beside = f" ({single:.2f}x by one thread's CPU time)" if single else ""
        yield Verdict(verdict.goal, verdict.measured + beside, verdict.holds)


def _at_least(goal: str, found: float | None, least: float) -> Verdict:
    return Verdict(goal, "" if found is None else f"{found:.2f}x", None if found is None else found >= least)


def whole_model(times: Records, memory: Records) -> Iterator[Verdict]:
    where = {"shape": "whole model", "n": 4096}
    for dtype, wanted in ((FLOAT, 2.2), (HALF, 3)):
        found = ratio(times, THEIRS, OURS, dtype=dtype, clock=WALL, **where)
        yield _at_least(f"whole model at least {wanted:g}x transformers, {dtype}, n = 4,096", found, wanted)
    for dtype in (FLOAT, HALF):
        ours, theirs = (find(memory, name=name, dtype=dtype, **where) for name in (OURS, THEIRS))
        goal = f"whole model: at most 1/3 of transformers' extra memory, {dtype}, n = 4,096"
        if ours is None or theirs is None:
            yield Verdict(goal, "", None)
            continue
        part = ours["extra"] / theirs["extra"]
        measured = f"{ours['extra'] / 2**20:,.0f} of {theirs['extra'] / 2**20:,.0f} MiB, {part:.2f}"
        yield Verdict(goal, measured, part <= 1 / 3)


def growth(times: Records, shape: str, direction: str = FORWARD) -> dict[int, Record]:
    """The kernel's records of one pattern by length, float32, all threads."""
    wanted = {"name": CPU, "shape": shape, "dtype": FLOAT, "clock": WALL, "direction": direction}
    return {t["n"]: t for t in times if all(t.get(name) == value for name, value in wanted.items())}


def _growth(times: Records) -> Iterator[Verdict]:
    for shape in GROWING:
        found = growth(times, shape)
        goal = f"{shape}: from 4,096 to 65,536 tokens time grows as its pairs do"
        if not {4096, 65536} <= found.keys():
            yield Verdict(goal, "", None)
            continue
        slow, pairs = (found[65536][key] / found[4096][key] / 16 for key in ("median", "pairs"))
        measured = f"{slow:.2f}x the time a token, {pairs:.2f}x the pairs"
        yield Verdict(f"{goal} (up to {DENSIFIED:g}x counts)", measured, slow <= DENSIFIED * pairs)


def _same_mask(times: Records) -> Iterator[Verdict]:
    """As the speed of auto over that of SDPA: 10% slower is 1 / 1.1."""
    for direction in DIRECTIONS:
        goal = f"auto never over 10% slower than SDPA given the same mask, {direction}, every n"
        where = {"shape": WINDOW, "dtype": FLOAT, "clock": WALL, "direction": direction}
        lengths = {t["n"] for t in times if t["name"] == SDPA}
        found = {n: one for n in lengths if (one := ratio(times, SDPA, AUTO, n=n, **where))}
        if not found:
            yield Verdict(goal, "", None)
            continue
        worst = min(found, key=lambda n: found[n])
        yield Verdict(goal, f"worst {found[worst]:.2f}x its speed, at n = {worst:,}", found[worst] >= 1 / 1.1)


def _linear(memory: Records, name: str) -> Iterator[Verdict]:
    for direction in DIRECTIONS:
        mine = [m for m in memory if (m["name"], m["direction"]) == (name, direction) and m["n"] >= LONG]
        grown = {m["n"]: m["extra"] for m in mine}
        goal = f"{short(name)}: peak memory linear in n, {direction}"
        if len(grown) < 2 or not all(grown.values()):
            yield Verdict(goal, "", None)
            continue
        slope = exponent(list(grown), list(grown.values()))
        span = f"{min(grown):,} to {max(grown):,}"
        yield Verdict(goal, f"n^{slope:.2f} from {span} (up to n^{LINEAR} counts)", slope <= LINEAR)
