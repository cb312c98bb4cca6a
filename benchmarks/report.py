"""The results of the benchmarks as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from contestants import CPU, FLEX, LONGFORMER, SDPA
from encoder_models import OURS, THEIRS
from grid import FLOAT, WALL
from harness import table
from peaks import PEAKS
from shapes import DIRECTIONS, SHAPES
from verdicts import Verdict, find, growth, of_peak, ratio, verdicts, whole_model

MIB = 2**20
WHOLE = "whole model"
PER_TOKEN = (4096, 16384, 65536)

Records = Sequence[dict[str, Any]]


def attention_text(results: dict[str, Any]) -> str:
    """All that the file has, conditions first and verdicts last."""
    times = [t for t in results["times"] if t["shape"] != WHOLE]
    parts = [*map(_conditions, results["runs"])]
    for key in dict.fromkeys((t["clock"], t["threads"], t["dtype"], t["direction"]) for t in times):
        some = [t for t in times if (t["clock"], t["threads"], t["dtype"], t["direction"]) == key]
        parts += [_times(key, some), _rates(some)]
    parts += [one for direction in DIRECTIONS for one in (_ratios(times, direction), _per_token(times, direction))]
    parts += [_memory([m for m in results["memory"] if m.get("shape") != WHOLE]), _encoder(results)]
    parts += [_left_out(results["left_out"]), _verdicts(verdicts(results["times"], results["memory"]))]
    return "\n\n".join(part for part in parts if part)


def encoder_text(results: dict[str, Any]) -> str:
    found = list(whole_model(results["times"], results["memory"]))
    return "\n\n".join([*map(_conditions, results["runs"]), _encoder(results), _verdicts(found)])


def _conditions(run: dict[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in run.items())


def _times(key: tuple[str, int, str, str], times: Records) -> str:
    clock, threads, dtype, direction = key
    title = f"{direction}, {dtype}, {clock} time, {_threads(threads)}"
    cells = {
        _place(t): f"{1e3 * t['median']:.2f} ±{500 * (t['upper_quartile'] - t['lower_quartile']):.2f}"
        for t in times
        if t["name"] not in PEAKS.values()
    }
    return f"{title}: ms, median ± half the distance between the quartiles\n{_by_length(cells)}"


def _rates(times: Records) -> str:
    cells = {}
    for t in times:
        part = of_peak(times, t) if t["name"] not in PEAKS.values() else None
        cells[_place(t)] = f"{t['gflops']:.1f}" + (f" ({part[0]:.2f})" if part else "")
    return (
        f"useful GFLOP/s of the above: allowed pairs alone count (of the peak in the same rounds)\n{_by_length(cells)}"
    )


def _place(record: dict[str, Any]) -> tuple[str, int]:
    return f"{record['shape']}: {record['name']}", record["n"]


def _ratios(times: Records, direction: str) -> str:
    cells = {
        (f"{shape}: {slow}", n): f"{found:.2f}"
        for shape in SHAPES
        for slow in (SDPA, FLEX, LONGFORMER)
        for n in sorted({t["n"] for t in times if t["shape"] == shape})
        if (found := ratio(times, slow, CPU, shape=shape, n=n, dtype=FLOAT, clock=WALL, direction=direction))
    }
    title = f"{direction}, float32, wall time: how many times as fast {CPU} is, median over rounds"
    return f"{title}\n{_by_length(cells)}" if cells else ""


def _per_token(times: Records, direction: str) -> str:
    cells = {
        (shape, n): f"{1e6 * t['median'] / n:.2f} ({t['pairs'] / n:,.0f})"
        for shape in SHAPES
        for n, t in growth(times, shape, direction).items()
        if n in PER_TOKEN
    }
    title = f"{direction}, float32, wall time, {CPU}: µs a token (pairs a token and head)"
    return f"{title}\n{_by_length(cells)}" if cells else ""


def _memory(memory: Records) -> str:
    parts = []
    for direction in dict.fromkeys(m["direction"] for m in memory):
        cells = {
            (m["name"], m["n"]): f"{m['extra'] / MIB:.0f}" + (f" + {m['held'] / MIB:.0f}" if m.get("held") else "")
            for m in memory
            if m["direction"] == direction
        }
        title = f"{direction}, window 512: peak memory of a call in MiB, beyond q, k, v (+ the mask it is given)"
        parts.append(f"{title}\n{_by_length(cells)}")
    return "\n\n".join(parts)


def _encoder(results: dict[str, Any]) -> str:
    """A line a length, dtype and clock: both libraries' times, their ratio, and their memory."""
    rows = [list(row) for row in _encoder_rows(results)]
    header = ["whole model", OURS, THEIRS, "times as fast", f"{OURS}, MiB", f"{THEIRS}, MiB"]
    return table(header, rows) if rows else ""


def _encoder_rows(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    times = [t for t in results["times"] if t["shape"] == WHOLE]
    for t in times:
        if t["name"] != OURS:
            continue
        where = {key: t[key] for key in ("shape", "n", "dtype", "clock")}
        theirs, found = find(times, name=THEIRS, **where), ratio(times, THEIRS, OURS, **where)
        place = {key: t[key] for key in ("shape", "n", "dtype")}
        memory = [find(results["memory"], name=name, **place) for name in (OURS, THEIRS)]
        seconds = [_seconds(one) if one else "-" for one in (t, theirs)]
        extra = [f"{m['extra'] / MIB:,.0f}" if m else "-" for m in memory]
        label = f"{t['n']:,} tokens, {t['dtype']}, {t['clock']} time, {_threads(t['threads'])}"
        yield (label, *seconds, f"{found:.2f}" if found else "-", *extra)


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _seconds(record: dict[str, Any]) -> str:
    return f"{record['median']:.3f} s ±{(record['upper_quartile'] - record['lower_quartile']) / 2:.3f}"


def _left_out(records: Records) -> str:
    """Who took no part, and why, with the patterns and lengths that this is about."""
    about: dict[str, dict[str, list[int]]] = {}
    for r in records:
        shape = r["case"].split(", n = ")[0]
        lengths = about.setdefault(f"{r['name']}, {r['direction']}: {r['why']}", {}).setdefault(shape, [])
        n = int(r["case"].split("n = ")[1].split(",")[0])
        lengths += [] if n in lengths else [n]
    lines = [f"  {who} ({_places(where)})" for who, where in about.items()]
    return "\n".join(["left out", *lines]) if lines else ""


def _places(where: dict[str, list[int]]) -> str:
    lengths = {shape: ", ".join(f"{n:,}" for n in sorted(found)) for shape, found in where.items()}
    return "; ".join(f"{shape} at {found}" for shape, found in lengths.items())


def _by_length(cells: dict[tuple[str, int], str]) -> str:
    names = list(dict.fromkeys(name for name, _ in cells))
    lengths = sorted({n for _, n in cells})
    rows = [[name, *(cells.get((name, n), "-") for n in lengths)] for name in names]
    return table(["n", *(f"{n:,}" for n in lengths)], rows)


def _verdicts(found: Sequence[Verdict]) -> str:
    return "verdicts\n" + "\n".join(f"  {v.word:<12}  {v.goal}: {v.measured or '-'}" for v in found)
