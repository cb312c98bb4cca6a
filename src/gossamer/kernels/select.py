"""Which backend computes a call, and why the others do not: chosen out loud, never replaced in silence."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.errors import InputError
from gossamer.kernels.backend import Backend
from gossamer.kernels.backends import BACKENDS, backends_for
from gossamer.kernels.inputs import Inputs

__all__ = ["Explanation", "choose"]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The backend that computes a call, why, and why each other one does not."""

    backend: str
    reason: str
    others: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{self.backend}: {self.reason}"]
        return "\n".join(lines + [f"not {name}: {why}" for name, why in self.others.items()])


def choose(inputs: Inputs, backend: str = "auto", return_lse: bool = False) -> Explanation:
    """Choose the backend. Raises InputError for an unknown name and for one that cannot compute this call."""
    if backend not in (*BACKENDS, "auto"):
        raise InputError(f"backend is {backend!r}; it must be one of auto, {', '.join(BACKENDS)}")
    table = backends_for(inputs)
    impossible = {one.name: why for one in table if (why := _why_not(one, inputs, return_lse))}
    if backend in impossible:
        raise InputError(f"backend {backend!r} cannot compute this call: {impossible[backend]}; try backend='auto'")
    if backend == "auto":
        return _cheapest(inputs, [one for one in table if one.name not in impossible], impossible)
    others = {name: impossible.get(name, "not asked for") for name in BACKENDS if name != backend}
    return Explanation(backend=backend, reason="asked for by name", others=others)


def _why_not(backend: Backend, inputs: Inputs, return_lse: bool) -> str | None:
    why = backend.why_not(inputs)
    return "it gives no log-sum-exp" if why is None and return_lse and not backend.gives_lse else why


def _cheapest(inputs: Inputs, possible: list[Backend], impossible: dict[str, str]) -> Explanation:
    """Of the backends that none outruns, which are `dense` and one other at most, the one that costs less."""
    others = {name: why for one in possible for name, why in one.outruns.items()} | impossible
    first, *rest = [one for one in possible if one.name not in others]
    if not rest:
        return _explanation(first, first.only, others)
    (other,) = rest
    cost = other.cost(inputs)
    if cost.pairs == 0 or (cost.pairs is not None and cost.pairs < (first.cost(inputs).pairs or 0)):
        reason, others[first.name] = cost.if_less
        return _explanation(other, reason, others)
    reason, others[other.name] = cost.if_more
    return _explanation(first, reason, others)


def _explanation(taken: Backend, reason: str, others: dict[str, str]) -> Explanation:
    in_order = {name: others[name] for name in BACKENDS if name != taken.name}
    return Explanation(backend=taken.name, reason=reason, others=in_order)
