"""The parity gate: nothing is timed that does not compute the same attention as the float64 reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from contestants import SIDE, Contestant, Prepared, Problem
from torch import Tensor

import gossamer as gs
from gossamer.patterns import Full

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Largest ||a - b|| / ||b||: outputs, and the gradients of q, k and v together."""

STRIP = 8
"""At long lengths this many neighbouring rows are looked at in each of a few places."""


class ParityError(Exception):
    """Somebody does not compute what it is measured for."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison with the reference."""

    name: str
    setting: str
    n: int
    dtype: str
    what: str
    error: float
    tolerance: float

    def __str__(self) -> str:
        where = f"{self.name} ({self.setting}), {self.what}, n = {self.n}, {self.dtype}"
        return f"{where}: relative error {self.error:.1e}, allowed {self.tolerance:.0e}"


def relative_error(got: Tensor, expected: Tensor) -> float:
    """||got - expected|| / ||expected|| in float64; infinite where got is not finite."""
    error = (got.double() - expected).norm() / expected.norm()
    return float(error) if error.isfinite() else float("inf")


def require_parity(
    prepared: Prepared, *, whole: bool = False, directions: Sequence[str] = ("forward", "forward + backward")
) -> list[Check]:
    """Run a contestant, forward and (where it can) backward, and compare: all rows if `whole`, else strips of rows.

    Raises ParityError naming the first comparison that is beyond its tolerance.
    """
    outputs = {"forward": (prepared.forward(),)}
    if prepared.contestant.has_backward and "forward + backward" in directions:
        outputs["forward + backward"] = prepared.both()
    compare = _against_whole if whole else _against_strips
    checks = [
        _check(prepared, f"{direction}, {what}", got, expected)
        for direction, tensors in outputs.items()
        for what, got, expected in compare(prepared.contestant, prepared.problem, tensors)
    ]
    for check in checks:
        if not check.error <= check.tolerance:
            raise ParityError(str(check))
    return checks


def _check(prepared: Prepared, what: str, got: list[Tensor], expected: list[Tensor]) -> Check:
    dtype = prepared.problem.q.dtype
    return Check(
        name=prepared.contestant.name, setting=prepared.setting, n=prepared.problem.n, dtype=str(dtype)[6:], what=what,
        error=relative_error(_joined(got), _joined(expected)), tolerance=TOLERANCES[dtype],
    )  # fmt: skip


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


Comparison = tuple[str, list[Tensor], list[Tensor]]


def _against_whole(contestant: Contestant, p: Problem, tensors: tuple[Tensor, ...]) -> list[Comparison]:
    expected = _expected(p, contestant.pattern)
    compared: list[Comparison] = [("output", [tensors[0]], [expected[0]])]
    if len(tensors) > 1:
        compared.append(("gradients", list(tensors[1:]), list(expected[1:])))
    return compared


def _against_strips(contestant: Contestant, p: Problem, tensors: tuple[Tensor, ...]) -> list[Comparison]:
    got: dict[str, list[Tensor]] = {}
    expected: dict[str, list[Tensor]] = {}
    for what, which, rows, right in _expected_strips(p, contestant.pattern):
        if which < len(tensors):
            got.setdefault(what, []).append(tensors[which][:, :, rows])
            expected.setdefault(what, []).append(right)
    return [(what, got[what], expected[what]) for what in got]


@lru_cache(maxsize=2)
def _expected(p: Problem, pattern: gs.Full | gs.Window) -> tuple[Tensor, ...]:
    return reference(p, pattern, slice(0, p.n), slice(0, p.n))


@lru_cache(maxsize=2)
def _expected_strips(p: Problem, pattern: gs.Full | gs.Window) -> list[tuple[str, int, slice, Tensor]]:
    """What is compared, in which tensor (output, gradients of q, k, v), at which rows, and the right values there.

    A window's keys and queries are near by. Gradients of full attention depend on everybody: there, outputs alone.
    """
    found = []
    for start, stop in strips(p.n):
        rows = slice(start, stop)
        if isinstance(pattern, Full):
            found.append(("output", 0, rows, reference(p, pattern, rows, slice(0, p.n))[0]))
            continue
        queries, keys = _around(rows, SIDE, p.n), _around(rows, 2 * SIDE, p.n)
        right = reference(p, pattern, queries, keys)
        for which, first in enumerate((queries.start, queries.start, keys.start, keys.start)):
            what = "gradients" if which else "output"
            found.append((what, which, rows, right[which][:, :, start - first : stop - first]))
    return found


def strips(n: int) -> list[tuple[int, int]]:
    """Rows at both ends, in the middle and at a drawn place."""
    drawn = int(torch.randint(0, n - STRIP + 1, (), generator=torch.Generator().manual_seed(n)))
    return [(at, at + STRIP) for at in sorted({0, n // 2 - STRIP // 2, drawn, n - STRIP})]


def _around(rows: slice, reach: int, n: int) -> slice:
    return slice(max(rows.start - reach, 0), min(rows.stop + reach, n))


def reference(p: Problem, pattern: gs.Full | gs.Window, queries: slice, keys: slice) -> tuple[Tensor, ...]:
    """Output and gradients of q, k, v for some of the queries and keys, in float64, by Gossamer's definition."""
    q, k, v = (x[:, :, rows].double().requires_grad_() for x, rows in ((p.q, queries), (p.k, keys), (p.v, keys)))
    out = gs.attend(q, k, v, pattern, query_start=queries.start - keys.start, backend="reference")
    grads = torch.autograd.grad(out, (q, k, v), p.grad[:, :, queries].double())
    return (out.detach(), *grads)


def require_layer_parity(outputs: dict[str, Tensor], n: int, dtype: torch.dtype) -> Check:
    """The two whole layers agree with each other. Raises ParityError."""
    (_, ours), (name, theirs) = outputs.items()
    check = Check(
        name=name, setting="default", n=n, dtype=str(dtype)[6:], what="output against Gossamer's layer",
        error=relative_error(theirs, ours.double()), tolerance=TOLERANCES[dtype],
    )  # fmt: skip
    if not check.error <= check.tolerance:
        raise ParityError(str(check))
    return check
