"""What a backend is: one way to compute attention, which says itself what it cannot do and what a call costs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from gossamer.kernels.inputs import Inputs

__all__ = ["SLOW_DEFINITION", "Backend", "Cost"]

SLOW_DEFINITION: dict[str, str] = {"reference": "slow: it is the definition, for tests"}
"""What every other backend outruns."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a call costs in `pairs` of dense attention; None: more than dense attention, 0: less, at any lengths.

    What `explain` says, first of the backend that is taken, then of the other one: where this cost is less than dense
    attention's, and where it is not. The costs of `dense` and `reference`, which others are compared with, say nothing.
    """

    pairs: int | None
    if_less: tuple[str, str] = ("", "")
    if_more: tuple[str, str] = ("", "")


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to compute a call.

    name: what users call it. why_not: why it cannot compute a call, in words, or None. run: the output [batch, heads,
    queries, size of v] and the log-sum-exp [batch, heads, queries] of the whole pattern, in float32 or wider; None
    unless `gives_lse`.
    cost: see `Cost`. outruns: the backends that are slower on every call, and what is said of them. only: why it is
    taken where no other is left.
    scratch: the bytes that it holds besides what it reads and gives, where they grow with the pairs.
    keeps: the bytes that autograd keeps of it besides what it reads and gives, where they grow with the pairs.
    lets_out: those of q, k and v whose NaN and infinity a forward pass carries from one packed document to others.
    """

    name: str
    why_not: Callable[[Inputs], str | None]
    cost: Callable[[Inputs], Cost]
    run: Callable[[Inputs], tuple[Tensor, Tensor | None]]
    only: str = "dense cannot"
    outruns: Mapping[str, str] = field(default_factory=SLOW_DEFINITION.copy)
    gives_lse: bool = True
    scratch: Callable[[Inputs], int] = lambda inputs: 0
    keeps: Callable[[Inputs], int] = lambda inputs: 0
    lets_out: str = "qkv"
