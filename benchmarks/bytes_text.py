"""What `bytes.py` found, as tables, and the papers' claims against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import table

PAPER_STEP = {"dense": 1.31, "fixed": 0.55, "strided": 0.35}
"""Seconds a step at 12,288 tokens of enwik8, 8 V100 (Child et al. 2019, table 2)."""
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
    """What is to be shown, and whether it is so; nothing of what was not run."""
    for name, bits in _by_corpus(results.get("corpora", [])):
        bar = next(one["gzip"] for one in results["corpora"] if one["corpus"] == name)
        worst = max(bits, key=bits.__getitem__)
        yield f"{name}: every model beats gzip -9, {bar:.3f} (worst: {worst}, {bits[worst]:.3f})", bits[worst] < bar
        yield from _no_worse(name, bits, "fixed", "dense", "text: fixed is no worse than dense (table 1)")
        yield from _no_worse(name, bits, "dense", "strided", "text: strided is worse than dense (table 1)")
    for part, better, others, said in (
        ("digits", "strided", ("dense", "fixed"), "images: strided is no worse than {} (table 1)"),
        ("pictures", "strided", ("dense", "fixed"), "images: strided is no worse than {} (table 1)"),
        ("hashed", "hashed", ("dense", "window", "strided"), "hashed is no worse than {} in equal time"),
        ("ways", "merged", ("in turns", "per head"), "merged is no worse than {}"),
        ("dilations", "doubling", ("window",), "doubling dilations are no worse than one {}"),
    ):
        for name, bits in _by_corpus(results.get(part, [])):
            for other in others:
                yield from _no_worse(name, bits, better, other, said.format(other))
    yield from _claims_of_layers(results.get("layers", []))
    times = {one["pattern"]: one["median"] for one in results.get("steps", [])}
    for name in ("fixed", "strided"):
        if {name, "dense"} <= times.keys():
            ours, theirs = times["dense"] / times[name], PAPER_STEP["dense"] / PAPER_STEP[name]
            n = results["steps"][0]["n"]
            yield (
                f"a step at {n:,} tokens: {name} {ours:.2f} times as fast as dense (paper: {theirs:.2f})",
                ours >= theirs,
            )


def _claims_of_layers(records: Records) -> Iterator[tuple[str, bool]]:
    for name in dict.fromkeys(one["pattern"] for one in records):
        for other in ("dense", "window") if "hashed" in name else ():
            first = _pays_from(records, name, other)
            since = "" if first is None else f" from {first:,} tokens"
            yield f"a model of one layer: {name} takes less time than {other}{since}", first is not None


def _pays_from(records: Records, one: str, other: str) -> int | None:
    """The length from which on one takes less time than another, spread apart, at all lengths of both."""
    spreads: dict[int, dict[str, dict[str, Any]]] = {}
    for record in records:
        spreads.setdefault(record["n"], {})[record["pattern"]] = record
    first = None
    for n in sorted((n for n, there in spreads.items() if {one, other} <= there.keys()), reverse=True):
        if spreads[n][one]["upper_quartile"] >= spreads[n][other]["lower_quartile"]:
            break
        first = n
    return first


def _no_worse(corpus: str, bits: dict[str, float], left: str, right: str, what: str) -> Iterator[tuple[str, bool]]:
    """Nothing where one of them was not learnt."""
    if {left, right} <= bits.keys():
        yield f"{corpus}, {what}: {left} {bits[left]:.3f}, {right} {bits[right]:.3f}", bits[left] <= bits[right]


def _by_corpus(records: Records) -> Iterator[tuple[str, dict[str, float]]]:
    """The bits of each corpus, by pattern."""
    for name in dict.fromkeys(one["corpus"] for one in records):
        yield name, {one["pattern"]: one["bits_per_byte"] for one in records if one["corpus"] == name}


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
    means = {one["pattern"]: one["means"] for one in records if one["n"] == records[-1]["n"]}
    rows = []
    for n in dict.fromkeys(one["n"] for one in records):
        times = {one["pattern"]: one["median"] for one in records if one["n"] == n}
        rows.append([f"{n:,}", *(f"{1e3 * times[name]:.1f}" for name in names)])
    said = "; ".join(f"{name}: {text}" for name, text in means.items())
    title = "a model of one layer, forward and backward, milliseconds, interleaved"
    return f"{title} ({said})\n{table(['tokens', *names], rows)}"
