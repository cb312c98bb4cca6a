"""A weight under a mask, of which each number stands for a block of the weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.checks import is_whole, require
from gossamer.kernels import linear
from gossamer.kernels.accounts import account_linear
from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers.storages import Storage

if TYPE_CHECKING:
    from gossamer.layers.linear import Linear

__all__ = ["Block", "Gate", "Masked", "expected_l0", "hard_concrete", "spread", "summed"]

Block = tuple[int, int]
"""Rows and columns of a block."""
Gate = Literal["fixed", "straight-through", "hard-concrete"]
MASK, SCORES = "mask", "mask_scores"

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""Of the hard concrete: its temperature, and what its ends are stretched to (Louizos et al. 2018, section 4)."""
_OPEN = 2.5
"""The log alpha from which on, a little above 2.398, the gate is 1 in evaluation."""


@dataclass(frozen=True, kw_only=True)
class Masked(Storage, kind="masked"):
    """`gate * weight`; a number of the gate stands for a block of rows and columns, smaller at the far edges.

    gate: "fixed", a mask of 1 and 0 that stays or is set from outside. "straight-through": the same, and scores S to
    which the gradient of the gate goes, so that dL/dS is the sum over the block of dL/d(gate * weight) * weight, of
    what is masked too (Sanh et al. 2020, arXiv 2005.07683, section 4). "hard-concrete": no mask; scores are log alphas,
    and the gate is drawn while training (Louizos et al. 2018, arXiv 1712.01312). What is masked gets no gradient.
    """

    gate: Gate = "fixed"
    block: Block = (1, 1)
    kind = "masked"
    frozen = (MASK,)

    def __post_init__(self) -> None:
        allowed = ", ".join(map(repr, get_args(Gate)))
        require(self.gate in get_args(Gate), "gate", self.gate, f"one of {allowed}")
        pair = isinstance(self.block, tuple | list) and len(self.block) == 2
        fits = pair and all(is_whole(size, 1, 2**31 - 1) for size in self.block)
        require(fits, "block", self.block, "rows and columns, two whole numbers")
        object.__setattr__(self, "block", tuple(map(int, self.block)))  # JSON has lists

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"block": list(self.block)}

    def tensors(self, weight: Float[Tensor, "outputs inputs"]) -> dict[str, Tensor]:
        counts = [-(-size // of_block) for size, of_block in zip(weight.shape, self.block, strict=True)]
        mask = {} if self.gate == "hard-concrete" else {MASK: weight.new_ones(counts)}
        start = _OPEN if self.gate == "hard-concrete" else 0.0
        scores = {} if self.gate == "fixed" else {SCORES: weight.new_full(counts, start)}
        return {"weight": weight, **mask, **scores}

    def describe(self) -> str:
        high, wide = self.block
        return ", masked" if self.block == (1, 1) else f", masked in blocks of {high:,} x {wide:,}"

    def gates(self, stored: Linear, *, drawn: bool = False) -> Float[Tensor, "down beside"]:
        """The gate of every block. drawn: as while training."""
        if self.gate == "hard-concrete":
            return hard_concrete(stored.get_parameter(SCORES), drawn=drawn)
        mask = stored.get_parameter(MASK)
        if self.gate == "fixed":
            return mask
        scores = stored.get_parameter(SCORES)
        return mask + (scores - scores.detach())

    def whole(self, stored: Linear) -> Float[Tensor, "outputs inputs"]:
        # Of a negative weight 0 times it is -0, which is not stored as nothing; -0 + 0 is 0.
        return stored.weight * self._spread(stored, self.gates(stored)) + 0.0

    def product(
        self, stored: Linear, x: Float[Tensor, "*rest inputs"], activation: str | None, residual: Tensor | None
    ) -> Float[Tensor, "*rest outputs"]:
        gates = self._spread(stored, self.gates(stored, drawn=stored.training))
        return linear(x, stored.weight * gates, stored.bias, activation, residual)

    def _spread(self, stored: Linear, gates: Tensor) -> Tensor:
        return spread(gates, self.block, (stored.out_features, stored.in_features))

    @own_frame
    def account(self, stored: Linear, x: Tensor, ledger: Ledger, activation: str | None) -> Tensor:
        gates = self._account_gates(stored, ledger)
        whole = self._spread(stored, torch.empty_like(gates, requires_grad=False)).shape
        if whole != gates.shape:
            gates = ledger.operation(whole, gates.dtype, (gates,))
        return account_linear(x, ledger.multiply(stored.weight, gates), stored.bias, ledger, activation)

    def _account_gates(self, stored: Linear, ledger: Ledger) -> Tensor:
        if self.gate == "fixed":
            return stored.get_parameter(MASK)
        scores = stored.get_parameter(SCORES)
        shape, dtype = scores.shape, scores.dtype
        if self.gate == "straight-through":
            return ledger.operation(shape, dtype, (ledger.operation(shape, dtype, (scores,)),))
        stretched = ledger.operation(shape, dtype, (scores,), saves_output=True)
        stretched = ledger.operation(shape, dtype, (stretched,))
        return ledger.operation(shape, dtype, (stretched,), saves=(stretched,))


def hard_concrete(log_alpha: Float[Tensor, "*units"], *, drawn: bool) -> Float[Tensor, "*units"]:
    """Gates from 0 to 1, both of which they reach (Louizos et al. 2018, equations 10 to 13).

    drawn: `s = sigmoid((log u - log(1 - u) + log_alpha) / beta)` with u uniform; else `s = sigmoid(log_alpha)`, as they
    have it in evaluation. The gate is `s (zeta - gamma) + gamma`, cut to 0 and 1.
    """
    if drawn:
        tiny = torch.finfo(log_alpha.dtype).eps
        u = torch.rand_like(log_alpha).clamp(tiny, 1 - tiny)
        s = torch.sigmoid((u.log() - (-u).log1p() + log_alpha) / BETA)
    else:
        s = torch.sigmoid(log_alpha)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def expected_l0(log_alpha: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
    """How probable it is that a drawn gate is not 0: `sigmoid(log_alpha - beta log(-gamma / zeta))` (equation 12)."""
    return torch.sigmoid(log_alpha - BETA * math.log(-GAMMA / ZETA))


def spread(
    units: Float[Tensor, "down beside"], block: Block, shape: tuple[int, int]
) -> Float[Tensor, "#outputs #inputs"]:
    """Each number over its block of a weight of this shape; along a dimension that one block fills it stays one."""
    for dimension, (size, whole) in enumerate(zip(block, shape, strict=True)):
        if units.shape[dimension] > 1 and size > 1:
            units = units.repeat_interleave(size, dim=dimension).narrow(dimension, 0, whole)
    return units


def summed(values: Float[Tensor, "outputs inputs"], block: Block) -> Float[Tensor, "down beside"]:
    """The sum over each block; those at the far edges may be smaller."""
    if block == (1, 1):
        return values
    (rows, columns), (high, wide) = values.shape, block
    filled = F.pad(values, (0, -columns % wide, 0, -rows % high))
    return filled.unflatten(1, (-1, wide)).sum(2).unflatten(0, (-1, high)).sum(1)
