"""What `bytes.py` found, as tables, and the paper's claims against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness import table

PAPER_STEP = {"dense": 1.31, "fixed": 0.55, "strided": 0.35}
"""Seconds a step at 12,288 tokens of enwik8, 8 V100 (Child et al. 2019, table 2)."""
CORPORA = ("speeches", "wikipedia")

Records = Sequence[dict[str, Any]]


def bytes_text(results: dict[str, Any]) -> str:
    """Conditions, tables, verdicts."""
    parts = ["\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in results["run"].items())]
    if results.get("corpora"):
        parts.append(_trained("held-out bits per byte, equal parameters and time", results["corpora"]))
    if results.get("digits"):
        parts.append(_trained("held-out bits per pixel of 8 x 8 digits", results["digits"]))
    if results.get("steps"):
        parts.append(_steps(results["steps"]))
    parts.append(
        "\n".join(["claims", *(f"  {'holds' if one else 'does not hold':14}{what}" for what, one in claims(results))])
    )
    return "\n\n".join(parts)


def claims(results: dict[str, Any]) -> Iterator[tuple[str, bool]]:
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
    found = _bits(results.get("digits", []), "digits")
    if found:
        yield _no_worse("digits", found, "strided", "dense", "images: strided is no worse than dense (table 1)")
        yield _no_worse("digits", found, "strided", "fixed", "images: strided is no worse than fixed (table 1)")
    times = {one["pattern"]: one["median"] for one in results.get("steps", [])}
    if times:
        for name in ("fixed", "strided"):
            ours, theirs = times["dense"] / times[name], PAPER_STEP["dense"] / PAPER_STEP[name]
            n = results["steps"][0]["n"]
            yield (
                f"a step at {n:,} tokens: {name} {ours:.2f} times as fast as dense (paper: {theirs:.2f})",
                ours >= theirs,
            )


def _no_worse(corpus: str, found: dict[str, float], left: str, right: str, what: str) -> tuple[str, bool]:
    return f"{corpus}, {what}: {left} {found[left]:.3f}, {right} {found[right]:.3f}", found[left] <= found[right]


def _bits(records: Records, corpus: str) -> dict[str, float]:
    return {one["pattern"]: one["bits_per_byte"] for one in records if one["corpus"] == corpus}


def _trained(title: str, records: Records) -> str:
    ordered = sorted(records, key=lambda one: (one["corpus"], one["bits_per_byte"]))
    rows = [
        [
            f"{one['corpus']}: {one['pattern']}", one["means"],
            f"{one['bits_per_byte']:.3f}", f"{one.get('gzip', 0):.3f}",
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
