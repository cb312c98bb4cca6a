"""Which cases a run is made of: patterns, lengths, dtypes, threads; the cases that decide come first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from contestants import AUTO, BLOCKED, CPU, FLEX, LONGFORMER, SDPA
from shapes import DENSE, DILATED, DIRECTIONS, FIXED, SHAPES, STRIDED, WITH_GLOBAL

ALL = (AUTO, CPU, BLOCKED, SDPA, FLEX, LONGFORMER)
PEERLESS = (DILATED, WITH_GLOBAL, STRIDED, FIXED)
"""Patterns that few peers have."""
GROWING = ("window 64", "window 512", "window 2048", *PEERLESS)
"""Their time per token is told up to 65,536 tokens; dense attention need not be shown to be dense."""
FLOAT, HALF = "float32", "bfloat16"
CPU_TIME, WALL = "CPU", "wall"
LONG = (16384, 65536)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One pattern at one length in one dtype: everybody named is gated, then timed in turn, in rounds.

    `clock` "CPU" is one thread's CPU time, "wall" all threads' time on the wall. `patience` is in seconds a contestant.
    """

    shape: str
    n: int
    dtype: str = FLOAT
    clock: str = WALL
    names: tuple[str, ...] = ALL
    directions: tuple[str, ...] = DIRECTIONS
    rounds: int = 9
    patience: float = 2.5

    @property
    def family(self) -> str:
        return SHAPES[self.shape].family

    @property
    def key(self) -> str:
        return f"{self.shape}, n = {self.n}, {self.dtype}, {self.clock} time"


@dataclass(frozen=True, kw_only=True)
class MemoryCase:
    """Peak memory of one contestant with a window of 512, float32, in a process of its own."""

    name: str
    direction: str
    lengths: tuple[int, ...] = (2048, 4096, 8192, 16384)
    shape: str = "window 512"
    family: str = "memory"

    @property
    def key(self) -> str:
        return f"memory of {self.name}, {self.direction}"


@dataclass(frozen=True, kw_only=True)
class GateCase:
    """Everybody, in every setting, all rows compared, at a length that is a multiple of nothing."""

    shape: str
    n: int = 777
    names: tuple[str, ...] = ALL

    @property
    def family(self) -> str:
        return SHAPES[self.shape].family

    @property
    def key(self) -> str:
        return f"parity of {self.shape}, n = {self.n}"


AnyCase = Case | MemoryCase | GateCase


@dataclass(frozen=True, kw_only=True)
class Plan:
    purpose: str
    cases: tuple[AnyCase, ...]
    encoder: bool = False
    """Whether the whole model is measured in the same run, briefly; else `benchmarks/encoder.py` does."""


def only(cases: Sequence[AnyCase], families: Sequence[str]) -> list[AnyCase]:
    """The cases of some families; of all if none is named."""
    return [case for case in cases if not families or case.family in families]


def families() -> list[str]:
    return [*dict.fromkeys(shape.family for shape in SHAPES.values()), "memory"]


def _one_thread() -> Iterator[Case]:
    """What the goals in fractions of the peak are judged by, and every pattern beside them."""
    for dtype in (FLOAT, HALF):
        yield Case(shape="window 512", n=4096, dtype=dtype, clock=CPU_TIME)
        yield Case(shape=DENSE, n=4096, dtype=dtype, clock=CPU_TIME, names=(CPU, SDPA, FLEX))
        for size in (64, 128, 256, 1024, 2048):
            yield Case(shape=f"window {size}", n=4096, dtype=dtype, clock=CPU_TIME, names=(CPU,))
        for shape in PEERLESS:
            yield Case(shape=shape, n=4096, dtype=dtype, clock=CPU_TIME, names=(CPU,))


def _wall() -> Iterator[Case]:
    for n in (4096, 256, 512, 1024, 2048, 8192, 16384):
        yield Case(shape="window 512", n=n)
    for n in (4096, 32, 256, 1024):
        yield Case(shape=DENSE, n=n, names=(AUTO, CPU, SDPA, FLEX))
    yield Case(shape=DENSE, n=16384, names=(CPU, SDPA), directions=DIRECTIONS[:1], rounds=2)
    for shape in (*(f"window {size}" for size in (64, 128, 256, 1024, 2048)), *PEERLESS):
        yield Case(shape=shape, n=4096)
    for shape in ("window 512", DENSE):
        yield Case(shape=shape, n=4096, dtype=HALF)
    yield Case(shape=DENSE, n=32, dtype=HALF, names=(AUTO, CPU, SDPA))


def _growth(ns: Sequence[int], names: Sequence[str], rounds: int) -> Iterator[Case]:
    for shape in GROWING:
        for n in ns:
            if (shape, n) != ("window 512", 16384):
                yield Case(shape=shape, n=n, names=tuple(names), rounds=rounds, patience=2.0)


def _memory() -> Iterator[MemoryCase]:
    for name in ALL[1:]:
        yield MemoryCase(name=name, direction=DIRECTIONS[0])
    for name in (CPU, BLOCKED, SDPA, LONGFORMER):
        yield MemoryCase(name=name, direction=DIRECTIONS[1])


def _quick() -> Iterator[Case]:
    """Every goal, in few rounds and without the peers that no goal asks for."""
    short = {"rounds": 3, "patience": 1.5}
    for dtype in (FLOAT, HALF):
        yield Case(shape="window 512", n=4096, dtype=dtype, clock=CPU_TIME, names=(CPU,), **short)
        yield Case(shape=DENSE, n=4096, dtype=dtype, clock=CPU_TIME, names=(CPU,), **short)
        yield Case(shape="window 64", n=4096, dtype=dtype, clock=CPU_TIME, names=(CPU,), **short)
    yield Case(shape="window 512", n=4096, names=(CPU, FLEX, LONGFORMER), **short)
    yield Case(shape="window 512", n=4096, dtype=HALF, names=(CPU, FLEX), directions=DIRECTIONS[:1], **short)
    yield Case(shape=DENSE, n=4096, names=(CPU, SDPA), **short)
    yield Case(shape=DENSE, n=32, names=(AUTO, CPU, SDPA), **short)
    for shape in PEERLESS:
        yield Case(shape=shape, n=4096, names=(CPU,), directions=DIRECTIONS[:1], **short)
    for case in _growth(LONG[1:], (CPU,), 2):
        if case.shape in ("window 512", *PEERLESS):
            yield replace(case, directions=DIRECTIONS[:1])


def _smoke() -> Iterator[AnyCase]:
    short = {"rounds": 2, "patience": 0.5}
    yield GateCase(shape="window 64", n=77, names=(CPU, BLOCKED, SDPA, LONGFORMER))
    for n in (64, 256):
        yield Case(shape="window 64", n=n, names=(AUTO, CPU, BLOCKED, SDPA, LONGFORMER), **short)
    yield Case(shape=DENSE, n=128, dtype=HALF, clock=CPU_TIME, names=(CPU, SDPA), **short)
    yield MemoryCase(name=BLOCKED, direction=DIRECTIONS[0], lengths=(512, 1024))


PLANS = {
    "cpu": Plan(
        purpose="measurement",
        cases=(
            *(GateCase(shape=shape) for shape in ("window 64", "window 512", DENSE, *PEERLESS)),
            *_one_thread(),
            *_wall(),
            *_growth(LONG, (CPU, BLOCKED), 3),
            *_memory(),
        ),
    ),
    "quick": Plan(
        purpose="a look: few rounds, every goal",
        cases=(*(GateCase(shape=shape, names=(CPU, LONGFORMER)) for shape in ("window 512", DENSE)), *_quick()),
        encoder=True,
    ),
    "smoke": Plan(purpose="smoke test: its times mean nothing", cases=tuple(_smoke())),
}
