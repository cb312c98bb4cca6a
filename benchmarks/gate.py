"""The parity gate: nothing is timed that does not compute the same attention as its definition in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from contestants import Prepared
from shapes import DIRECTIONS, HEAD_SIZE, HEADS, Problem
from torch import Tensor

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Largest ||a - b|| / ||b||: outputs, and the gradients of q, k and v together."""

STRIP = 8
"""At long lengths this many neighbouring rows are looked at in each of a few places."""

MOST_PAIRS = 2**26
"""Of queries, keys and heads that are computed for the gradients of keys: a second or two."""

CHUNK = 128


class ParityError(Exception):
    """Somebody does not compute what it is measured for."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison with the definition."""

    name: str
    setting: str
    shape: str
    n: int
    dtype: str
    what: str
    error: float
    tolerance: float

    def __str__(self) -> str:
        where = f"{self.name} ({self.setting}), {self.what}, {self.shape}, n = {self.n}, {self.dtype}"
        return f"{where}: relative error {self.error:.1e}, allowed {self.tolerance:.0e}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What is right: outputs and gradients of q at `rows`, gradients of k and v at `keys`, for the first `heads`."""

    rows: Tensor
    out: Tensor
    dq: Tensor
    keys: Tensor
    heads: int
    dk: Tensor
    dv: Tensor


def relative_error(got: Tensor, expected: Tensor) -> float:
    """||got - expected|| / ||expected|| in float64; infinite where got is not finite."""
    error = (got.double() - expected).norm() / expected.norm()
    return float(error) if error.isfinite() else float("inf")


def require_parity(prepared: Prepared, *, whole: bool = False, directions: Sequence[str] = DIRECTIONS) -> list[Check]:
    """Run a contestant in the directions that it can, and compare: all rows if `whole`, else strips of rows.

    Raises ParityError naming the first comparison that is beyond its tolerance.
    """
    expected, checks = right(prepared.problem, whole), []
    if prepared.can(DIRECTIONS[0]):
        out = prepared.forward()
        checks.append(_check(prepared, "forward, output", [out[:, :, expected.rows]], [expected.out]))
    if DIRECTIONS[1] in directions and prepared.can(DIRECTIONS[1]):
        checks += _gradients(prepared, expected)
    for check in checks:
        if not check.error <= check.tolerance:
            raise ParityError(str(check))
    return checks


def _gradients(prepared: Prepared, right: Expected) -> Iterator[Check]:
    out, dq, dk, dv = prepared.both()
    yield _check(prepared, "forward + backward, output", [out[:, :, right.rows]], [right.out])
    got = [dq[:, :, right.rows], *(x[:, : right.heads, right.keys] for x in (dk, dv))]
    yield _check(prepared, "forward + backward, gradients", got, [right.dq, right.dk, right.dv])


def _check(prepared: Prepared, what: str, got: list[Tensor], expected: list[Tensor]) -> Check:
    dtype, shape = prepared.problem.dtype, prepared.problem.shape.name
    return Check(
        name=prepared.contestant.name, setting=prepared.setting, shape=shape, n=prepared.problem.n,
        dtype=str(dtype).removeprefix("torch."), what=what,
        error=relative_error(_joined(got), _joined(expected)), tolerance=TOLERANCES[dtype],
    )  # fmt: skip


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


@lru_cache(maxsize=2)
def right(p: Problem, whole: bool) -> Expected:
    """By the pattern's own definition, densely, in float64. One computation serves all contestants."""
    places = [(0, p.n)] if whole else strips(p.n)
    rows = torch.cat([torch.arange(start, stop) for start, stop in places])
    parts = [_attend(p, some, HEADS) for some in rows.split(CHUNK)]
    keys, queries, heads = affordable_keys(p, places)
    dk = torch.zeros(1, heads, len(keys), HEAD_SIZE, dtype=torch.float64)
    dv = torch.zeros_like(dk)
    for some in queries.split(CHUNK):
        part = _attend(p, some, heads)
        at = torch.searchsorted(keys, part.seen).clamp(max=max(len(keys) - 1, 0))
        wanted = keys[at] == part.seen
        dk.index_add_(2, at[wanted], part.dk[:, :, wanted])
        dv.index_add_(2, at[wanted], part.dv[:, :, wanted])
    out, dq = (torch.cat([getattr(part, name) for part in parts], 2) for name in ("out", "dq"))
    return Expected(rows=rows, out=out, dq=dq, keys=keys, heads=heads, dk=dk, dv=dv)


def affordable_keys(p: Problem, places: list[tuple[int, int]]) -> tuple[Tensor, Tensor, int]:
    """Keys whose gradients are compared, the queries that see them, and in how many heads.

    A key's gradient needs every query that sees it, and all that those see: places are added from the last on while
    that can be paid for, and as many heads as can.
    """
    chosen, queries = torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    for start, stop in reversed(places):
        keys = torch.cat([torch.arange(start, stop), chosen])
        seeing = _allowed(p, torch.arange(p.n), keys).any(1).nonzero()[:, 0]
        if len(seeing) * p.n > 2 * MOST_PAIRS:
            break
        chosen, queries = keys, seeing
    return chosen, queries, max(1, min(HEADS, MOST_PAIRS // max(1, len(queries) * p.n)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """Some queries' outputs and gradients, and what they add to the gradients of the keys that they see."""

    out: Tensor
    dq: Tensor
    seen: Tensor
    dk: Tensor
    dv: Tensor


def _attend(p: Problem, rows: Tensor, heads: int) -> _Part:
    """Vaswani et al. 2017, section 3.2.1, and its derivatives."""
    allowed = _allowed(p, rows, torch.arange(p.n))
    seen = allowed.any(0).nonzero()[:, 0]
    q, grad = (x[:, :heads, rows].double() for x in (p.q, p.grad))
    k, v = (x[:, :heads, seen].double() for x in (p.k, p.v))
    scale = HEAD_SIZE**-0.5
    probabilities = (q @ k.mT * scale).masked_fill(~allowed[:, seen], float("-inf")).softmax(-1)
    toward = grad @ v.mT
    scores = probabilities * (toward - (toward * probabilities).sum(-1, keepdim=True)) * scale
    return _Part(out=probabilities @ v, dq=scores @ k, seen=seen, dk=scores.mT @ q, dv=probabilities.mT @ grad)


def _allowed(p: Problem, rows: Tensor, keys: Tensor) -> Tensor:
    flags = (None, None) if p.flags is None else (p.flags[0][rows], p.flags[0][keys])
    return p.pattern.allowed(rows, keys, *flags)


def strips(n: int) -> list[tuple[int, int]]:
    """Rows at both ends, in the middle and at a drawn place, none twice."""
    if n <= 8 * STRIP:
        return [(0, n)]
    drawn = int(torch.randint(STRIP, n // 2 - 2 * STRIP, (), generator=torch.Generator().manual_seed(n)))
    return [(at, at + STRIP) for at in (0, drawn, n // 2 - STRIP // 2, n - STRIP)]
