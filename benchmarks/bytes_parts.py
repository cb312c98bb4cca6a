"""The parts of `bytes.py`, each of which gives its records."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from bytes_runs import Bench, Patterns, all_speeches, held_out, step
from harness import Entry, interleave, progress, spread
from material import digits, photographs, wikipedia

from gossamer.models import Model
from gossamer.models.decoders import decoder
from gossamer.patterns import Fixed, Full, Hashed, Pattern, PerHead, Strided, Window

Records = Iterator[dict[str, Any]]
HASHES = (1, 2, 4)
HELD_OUT_PICTURE = "chelsea.png"


def text_patterns(bench: Bench) -> dict[str, Pattern]:
    """Those that the two corpora are learnt with."""
    plan = bench.plan
    stride = plan.stride
    near, far = Window(stride - 1, 0), Window(stride - 1, 0, dilation=max(1, plan.length // (2 * stride)))
    return {
        "dense": Full(causal=True),
        "strided": Strided(stride),
        "fixed": Fixed(stride, max(1, stride // 8)),
        "window": Window(2 * stride - 1, 0),
        "dilated mixture": _in_halves(near, far, plan.heads),
    }


def corpora(bench: Bench) -> Records:
    """Speeches and raw Wikipedia under five patterns."""
    plan = bench.plan
    for name, documents in (("speeches", all_speeches()), ("wikipedia", _pages())):
        files = bench.write_parted(name, documents)
        text = b"".join(one.encode() for one in held_out(documents, plan.held_out_bytes))
        bar = 8 * len(gzip.compress(text, 9)) / len(text)
        for pattern_name, pattern in bench.rng.sample(list(text_patterns(bench).items()), 5):
            record = bench.trained(files, pattern, length=plan.length, seconds=plan.seconds)
            yield {"corpus": name, "pattern": pattern_name, "gzip": bar, **record}


def steps(bench: Bench) -> Records:
    """A training step of each kind in turn, at the paper's 12,288 tokens."""
    plan = bench.plan
    n = plan.step_length
    stride = 128 if n >= 12_288 else 16
    kinds = {"dense": Full(causal=True), "fixed": Fixed(stride, stride // 8), "strided": Strided(stride)}
    models = {name: bench.model(pattern, n) for name, pattern in kinds.items()}
    for record in _timed(bench, models, n, patience=120.0):
        yield {"means": str(kinds[record["pattern"]]), **record}


def digits_part(bench: Bench) -> Records:
    """Digits as 64 bytes; positions are rows and columns, the stride is a row."""
    images = digits()
    count = min(bench.plan.digit_images, len(images) * 4 // 5)
    files = bench.write_images("digits", images[:count], images[count : count + count // 4])
    for name, pattern in {"dense": Full(causal=True), "strided": Strided(8), "fixed": Fixed(8, 1)}.items():
        record = bench.trained(files, pattern, length=64, rows=32, seconds=bench.plan.digits_seconds, axes=(8, 8))
        yield {"corpus": "digits", "pattern": name, **record}


def hashed(bench: Bench) -> Records:
    """Hashed attention against dense, window and strided, at two lengths."""
    plan = bench.plan
    files = bench.write_parted("speeches", all_speeches())
    for length, stride in ((plan.length, plan.stride), (plan.long_length, plan.long_stride)):
        kinds: dict[str, Pattern] = {
            "dense": Full(causal=True),
            "strided": Strided(stride),
            "window": Window(2 * stride - 1, 0),
            # Queries and keys that are apart are hashed apart, as `lengthen` does it; a bucket has a window's tokens.
            "hashed": Hashed(rounds=2, buckets=max(2, length // (2 * stride)), chunk=None, itself=True),
        }
        yield from _learnt(bench, files, f"speeches, {length:,} bytes", kinds, length)


def ways(bench: Bench) -> Records:
    """Three ways to use a factorised pattern (Child et al. 2019, section 5.1): in turns, merged, per head."""
    plan = bench.plan
    stride, heads = plan.stride, plan.heads
    files = bench.write_parted("speeches", all_speeches())
    summary = max(1, stride // 8)
    for name, first, second, merged in (
        ("strided", Strided(stride, part="local"), Strided(stride, part="column"), Strided(stride)),
        (
            "fixed", Fixed(stride, summary, part="block"), Fixed(stride, summary, part="summary"),
            Fixed(stride, summary),
        ),
    ):  # fmt: skip
        kinds: dict[str, Patterns] = {
            "in turns": (first, second), "merged": merged, "per head": _in_halves(first, second, heads)
        }  # fmt: skip
        yield from _learnt(bench, files, f"{name}, in three ways", kinds, plan.length)


def dilations(bench: Bench) -> Records:
    """Windows whose dilation doubles from layer to layer (WaveNet's), against one window of as many pairs."""
    plan = bench.plan
    files = bench.write_parted("speeches", all_speeches())
    # Begun again where the window would be longer than the row, and see less than the other.
    several = max(1, (plan.length // plan.stride).bit_length())
    kinds: dict[str, Patterns] = {
        "window": Window(plan.stride - 1, 0),
        "doubling": tuple(Window(plan.stride - 1, 0, dilation=2 ** (i % several)) for i in range(plan.layers)),
    }
    yield from _learnt(bench, files, "windows of equal pairs", kinds, plan.length)


def pictures(bench: Bench) -> Records:
    """Photographs, cut into squares: rows, columns and colours are axes, and the stride is a row; one is held out."""
    plan = bench.plan
    row = 3 * plan.side
    squares = photographs(plan.side)
    held = squares.pop(HELD_OUT_PICTURE)[: plan.held_out_bytes // (row * plan.side)]
    files = bench.write_images("photographs", [one for several in squares.values() for one in several], held)
    kinds: dict[str, Pattern] = {
        "dense": Full(causal=True),
        "strided": Strided(row),
        "fixed": Fixed(row, max(1, row // 8)),
        "window": Window(2 * row - 1, 0),
    }
    name = f"photographs, {plan.side} x {plan.side} x 3"
    yield from _learnt(bench, files, name, kinds, row * plan.side, axes=(plan.side, plan.side, 3))


def layers(bench: Bench) -> Records:
    """A model of one layer, forward and backward: from which length on hashing takes less time than others.

    Hashed layers are Reformer's: queries are keys, and chunks bound what a token sees.
    """
    plan = bench.plan
    for n in plan.layer_lengths:
        progress(f"a layer at {n:,} tokens")
        kinds: dict[str, Pattern] = {"dense": Full(causal=True), "window": Window(plan.layer_window - 1, 0)}
        kinds |= {f"hashed, {rounds}": _chunked(n, rounds) for rounds in HASHES}
        models = {name: _one_layer(bench, pattern, n) for name, pattern in kinds.items()}
        for record in _timed(bench, models, n, patience=10.0):
            yield {"means": str(kinds[record["pattern"]]), **record}


def _chunked(n: int, rounds: int) -> Hashed:
    """Buckets of about a chunk's tokens, in two factors where one rotation to all of them would be large."""
    chunk = min(64, n // 4)
    buckets = max(2, n // chunk)
    root = 2 * math.ceil(math.sqrt(buckets) / 2)
    return Hashed(rounds=rounds, buckets=buckets if buckets <= 128 else (root, root), chunk=chunk)


def _one_layer(bench: Bench, pattern: Pattern, n: int) -> Model:
    size = bench.plan.layer_size
    return Model(
        decoder(
            vocabulary_size=257, length=n, layers=1, hidden_size=size, heads=max(1, size // 64), patterns=pattern,
            shared_query_key=isinstance(pattern, Hashed),
        )
    )  # fmt: skip


def _learnt(
    bench: Bench, files: Mapping[str, Any], corpus: str, kinds: Mapping[str, Patterns], length: int, **more: Any
) -> Records:
    """A record a pattern, learnt in random order."""
    for name, patterns in bench.rng.sample(list(kinds.items()), len(kinds)):
        record = bench.trained(files, patterns, length=length, seconds=bench.plan.few_seconds, **more)
        yield {"corpus": corpus, "pattern": name, **record}


def _timed(bench: Bench, models: Mapping[str, Model], n: int, *, patience: float) -> Records:
    """Steps of models in turns."""
    plan = bench.plan
    ids = torch.randint(0, 256, (1, n), generator=torch.Generator().manual_seed(bench.seed)).to(plan.device)
    entries = []
    for name, model in models.items():
        entries.append(Entry(name, partial(step, model.to(plan.device).train(), ids, plan.precision)))
        entries[-1].call()
    for name, samples in interleave(entries, rounds=plan.step_rounds, patience=patience, rng=bench.rng).items():
        yield {"pattern": name, "n": n, **vars(spread(list(samples.values()))), "samples": samples}


def _in_halves(one: Pattern, other: Pattern, heads: int) -> PerHead:
    return PerHead((one, heads // 2), (other, heads - heads // 2))


def _pages() -> list[str]:
    """Each page with its markup, as it lies in the dump."""
    text = wikipedia().decode()
    return [page + "</page>" for page in text.split("</page>")[:-1]]


PARTS: dict[str, Callable[[Bench], Records]] = {
    "corpora": corpora, "steps": steps, "digits": digits_part, "hashed": hashed, "ways": ways, "dilations": dilations,
    "pictures": pictures, "layers": layers,
}  # fmt: skip
