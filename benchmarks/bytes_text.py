"""What `bytes.py` found, as tables, and the papers' claims against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import table

PAPER_STEP = {"dense": 1.31, "fixed": 0.55, "strided": 0.35}
"""Seconds a step at 12,288 tokens of enwik8, 8 V100 (Child et al. 2019, table 2)."""
CORPORA = ("speeches", "wikipedia")
TRAINED = {
    "corpora": "held-out bits per byte, equal parameters and time",
    "digits": "held-out bits per pixel of 8 x 8 digits",
    "hashed": "hashed attention: held-out bits per byte, equal parameters and time",
    "ways": "ways to use factorised patterns: held-out bits per byte, equal parameters and time",
    "dilations": "dilations that double from layer to layer: held-out bits per byte, equal parameters and time",
    "pictures": "squares of photographs: held-out bits per byte, equal parameters and time",
}
"""Parts that learn, and what their tables tell."""

Results = Mapping[str, Any]
Records = Sequence[dict[str, Any]]


def bytes_text(results: Results) -> str:
    """Conditions, tables, verdicts."""
    told = ["\n".join(f"{part}: {_where(run)}" for part, run in results["runs"].items())]
    told += [_trained(title, results[part]) for part, title in TRAINED.items() if results.get(part)]
    told += [_steps(results["steps"])] if results.get("steps") else []
    told += [_layers(results["layers"])] if results.get("layers") else []
    verdicts = (f"  {'holds' if one else 'does not hold':14}{what}" for what, one in claims(results))
    return "\n\n".join([*told, "\n".join(["claims", *verdicts])])


def _where(run: Mapping[str, Any]) -> str:
    """The conditions of a part in a line."""
    said = [f"{name} {run[name]}" for name in ("torch", "commit", "budget", "seed", "load_at_start")]
    return f"{run['cpu']} ({run['instruction_set']}), {run['threads']} threads, {run['date'][:10]}, {', '.join(said)}"


def claims(results: Results) -> Iterator[tuple[str, bool]]:
    """What is to be shown, and whether it is so; nothing of parts that were not run."""
    for name in CORPORA:
        found = _bits(results.get("corpora", []), name)
        if found:
            bar = next(one["gzip"] for one in results["corpora"] if one["corpus"] == name)
            worst = max(found, key=found.__getitem__)
            yield (
                f"{name}: every model beats gzip -9, {bar:.3f} (worst: {worst}, {found[worst]:.3f})",
                found[worst] < bar,
            )
            yield _no_worse(name, found, "fixed", "dense", "text: fixed is no worse than dense (table 1)")
            yield _no_worse(name, found, "dense", "strided", "text: strided is worse than dense (table 1)")
    for part in ("digits", "pictures"):
        for name, found in _by_corpus(results.get(part, [])):
            for other in ("dense", "fixed"):
                yield _no_worse(name, found, "strided", other, f"images: strided is no worse than {other} (table 1)")
    yield from _later_claims(results)
    times = {one["pattern"]: one["median"] for one in results.get("steps", [])}
    if times:
        for name in ("fixed", "strided"):
            ours, theirs = times["dense"] / times[name], PAPER_STEP["dense"] / PAPER_STEP[name]
            n = results["steps"][0]["n"]
            yield (
                f"a step at {n:,} tokens: {name} {ours:.2f} times as fast as dense (paper: {theirs:.2f})",
                ours >= theirs,
            )


def _later_claims(results: Results) -> Iterator[tuple[str, bool]]:
    """Of hashing, of ways to use factorised patterns, and of dilations."""
    for name, found in _by_corpus(results.get("hashed", [])):
        for other in ("dense", "window", "strided"):
            yield _no_worse(name, found, "hashed", other, f"hashed is no worse than {other} in equal time")
    for name, found in _by_corpus(results.get("ways", [])):
        for other in ("in turns", "per head"):
            yield _no_worse(name, found, "merged", other, f"merged is no worse than {other}")
    for name, found in _by_corpus(results.get("dilations", [])):
        yield _no_worse(name, found, "doubling", "window", "doubling dilations are no worse than one window")
    if results.get("layers"):
        hashings = [name for name in dict.fromkeys(one["pattern"] for one in results["layers"]) if "hashed" in name]
        for name in hashings:
            for other in ("dense", "window"):
                first = _pays_from(results["layers"], name, other)
                yield (
                    f"a layer: {name} takes less time than {other}{'' if first is None else f' from {first:,} tokens'}",
                    first is not None,
                )


def _pays_from(records: Records, one: str, other: str) -> int | None:
    """The length from which on one takes less time than another, at all lengths that both were measured at."""
    times: dict[int, dict[str, float]] = {}
    for record in records:
        times.setdefault(record["n"], {})[record["pattern"]] = record["median"]
    first = None
    for n in sorted(times, reverse=True):
        if times[n][one] >= times[n][other]:
            break
        first = n
    return first


def _no_worse(corpus: str, found: dict[str, float], left: str, right: str, what: str) -> tuple[str, bool]:
    return f"{corpus}, {what}: {left} {found[left]:.3f}, {right} {found[right]:.3f}", found[left] <= found[right]


def _by_corpus(records: Records) -> Iterator[tuple[str, dict[str, float]]]:
    """The bits of each corpus whose patterns were all measured."""
    names = list(dict.fromkeys(one["corpus"] for one in records))
    kinds = {one["pattern"] for one in records}
    for name in names:
        found = _bits(records, name)
        if set(found) == kinds:
            yield name, found


def _bits(records: Records, corpus: str) -> dict[str, float]:
    return {one["pattern"]: one["bits_per_byte"] for one in records if one["corpus"] == corpus}


def _trained(title: str, records: Records) -> str:
    ordered = sorted(records, key=lambda one: (one["corpus"], one["bits_per_byte"]))
    rows = [
        [
            f"{one['corpus']}: {one['pattern']}", one["means"],
            f"{one['bits_per_byte']:.3f}", f"{one['gzip']:.3f}" if "gzip" in one else "-",
            f"{one['steps']:,}", f"{one['tokens'] / 1e6:.2f}", f"{one['seconds']:.0f}", f"{one['parameters']:,}",
        ]
        for one in ordered
    ]  # fmt: skip
    header = ["", "pattern", "bits", "gzip -9", "steps", "M tokens", "s", "parameters"]
    return f"{title}\n{table(header, rows)}"


def _steps(records: Records) -> str:
    times = {one["pattern"]: one for one in records}
    rows = [
        [
            name, one["means"], f"{one['median']:.3f} ±{(one['upper_quartile'] - one['lower_quartile']) / 2:.3f}",
            f"{one['median'] / times['dense']['median']:.2f}", f"{PAPER_STEP[name] / PAPER_STEP['dense']:.2f}",
        ]
        for name, one in times.items()
    ]  # fmt: skip
    header = ["", "pattern", "s a step", "of dense", "paper"]
    return f"forward and backward at {records[0]['n']:,} tokens, seconds, interleaved\n{table(header, rows)}"


def _layers(records: Records) -> str:
    names = list(dict.fromkeys(one["pattern"] for one in records))
    rows = []
    for n in dict.fromkeys(one["n"] for one in records):
        times = {one["pattern"]: one["median"] for one in records if one["n"] == n}
        rows.append([f"{n:,}", *(f"{1e3 * times[name]:.1f}" for name in names)])
    return f"one layer, forward and backward, milliseconds, interleaved\n{table(['tokens', *names], rows)}"
