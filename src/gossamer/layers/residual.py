"""One part of a layer with what surrounds it: norm, dropout, the sum, and keeping or recomputing what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, is_grad_enabled
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers.again import AnyCut, Moments, Surroundings, add_learnt, gradients_of
from gossamer.layers.norms import LayerNorm, RMSNorm
from gossamer.layers.slices import Cut

__all__ = ["account_branch", "account_residual", "branch", "in_slices", "residual", "residual_in_slices"]

States = Float[Tensor, "batch length hidden"]
Norm = LayerNorm | RMSNorm


def branch(
    part: Callable[[Tensor], Tensor],
    hidden: States,
    *,
    input_norm: Norm | None = None,
    output_norm: Norm | None = None,
    dropout: float,
) -> States:
    """What a part adds: `dropout(output_norm(part(input_norm(hidden))))`; a norm that is None changes nothing."""
    out = part(hidden if input_norm is None else input_norm(hidden))
    return F.dropout(out if output_norm is None else output_norm(out), dropout)


def residual(
    part: Callable[[Tensor], Tensor],
    hidden: States,
    *,
    input_norm: Norm | None = None,
    output_norm: Norm | None = None,
    sum_norm: Norm | None = None,
    dropout: float,
    recompute: bool = False,
) -> States:
    """`sum_norm(hidden + branch(part, hidden))`; a norm that is None changes nothing.

    With `recompute`, `hidden` alone is kept for the backward pass, which runs the part once more with the same dropout
    (Chen et al. 2016, arXiv 1604.06174; Sparse Transformer, section 5.4): so the part must not change anything.
    """

    def step(x: Tensor) -> Tensor:
        total = x + branch(part, x, input_norm=input_norm, output_norm=output_norm, dropout=dropout)
        return total if sum_norm is None else sum_norm(total)

    if recompute and is_grad_enabled():
        return checkpoint(step, hidden, use_reentrant=False)
    return step(hidden)


def residual_in_slices(
    part: Callable[[Tensor, AnyCut], Tensor],
    hidden: States,
    cuts: Sequence[AnyCut],
    reads: Callable[[], Iterable[Tensor]],
    moments: Moments,
    *,
    input_norm: Norm | None = None,
    output_norm: Norm | None = None,
    sum_norm: Norm | None = None,
    dropout: float,
    recompute: bool = True,
) -> States:
    """What `residual` gives, slice by slice: of a slice nothing is kept for the backward pass, which reads it again.

    moments: of all parts of a stack. recompute: false keeps what one slice alone, a process's share, needs for that.
    part: is handed the rows that a slice reads, and gives those that it writes. reads: tells all tensors that it reads
    and that may learn.
    """

    def step(own: Tensor, rows: Tensor, cut: AnyCut) -> Tensor:
        norms = {"input_norm": input_norm, "output_norm": output_norm}
        total = own + branch(lambda x: part(x, cut), rows, **norms, dropout=dropout)
        return total if sum_norm is None else sum_norm(total)

    if len(cuts) == 1:
        (cut,) = cuts

        def alone(x: Tensor) -> Tensor:
            return step(x, cut.read(x), cut)

        again = recompute and is_grad_enabled()
        return checkpoint(alone, hidden, use_reentrant=False) if again else alone(hidden)
    return _in_slices(_Slices(step=step, cuts=cuts, surroundings=moments.now), hidden, reads)


def in_slices(
    part: Callable[[Tensor, Cut], Tensor], x: States, cuts: Sequence[Cut], reads: Callable[[], Iterable[Tensor]]
) -> States:
    """What a part gives for the rows of `x` that cuts write, one after the other; kept is `x` alone."""
    step = lambda own, rows, cut: part(rows, cast(Cut, cut))  # noqa: E731
    return _in_slices(_Slices(step=step, cuts=cuts, surroundings=Surroundings.now), x, reads)


def _in_slices(call: _Slices, hidden: Tensor, reads: Callable[[], Iterable[Tensor]]) -> Tensor:
    if is_grad_enabled():
        learnt = [one for one in reads() if one.requires_grad]
        if learnt or hidden.requires_grad:
            return cast(Tensor, _Sliced.apply(call, hidden, *learnt))
    return _joined(call.step, hidden, call.cuts)


def _joined(step: Callable[[Tensor, Tensor, AnyCut], Tensor], hidden: Tensor, cuts: Sequence[AnyCut]) -> Tensor:
    return torch.cat([step(hidden[:, cut.start : cut.stop], cut.read(hidden), cut) for cut in cuts], 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Slices:
    step: Callable[[Tensor, Tensor, AnyCut], Tensor]
    cuts: Sequence[AnyCut]
    surroundings: Callable[[torch.device], Surroundings]


class _Sliced(torch.autograd.Function):
    """All slices, of which the states that they read are kept alone; gradients are added up in one tensor."""

    @staticmethod
    def forward(ctx: Any, call: _Slices, hidden: Tensor, *learnt: Tensor) -> Tensor:
        ctx.call, ctx.learnt, ctx.surroundings = call, learnt, call.surroundings(hidden.device)
        ctx.save_for_backward(hidden)
        with torch.no_grad():
            return _joined(call.step, hidden, call.cuts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (hidden,) = ctx.saved_tensors
        into = torch.zeros_like(hidden)
        of_learnt: list[Tensor | None] = [None] * len(ctx.learnt)
        first = ctx.call.cuts[0].start
        with ctx.surroundings.again():
            for cut in ctx.call.cuts:
                rows = slice(cut.start, cut.stop)
                with torch.enable_grad():
                    own, read = (x.detach().requires_grad_() for x in (hidden[:, rows], cut.read(hidden)))
                    out = ctx.call.step(own, read, cut)
                of_own, of_read, *new = gradients_of(
                    out, (own, read), ctx.learnt, grad[:, cut.start - first : cut.stop - first]
                )
                add_learnt(of_learnt, new)
                if of_own is not None:
                    into[:, rows] += of_own
                if of_read is not None:
                    cut.add_to(into, of_read)
        return None, into, *of_learnt


def account_branch(
    part: Callable[[Tensor, Ledger], Tensor],
    hidden: States,
    ledger: Ledger,
    *,
    input_norm: Norm | None = None,
    output_norm: Norm | None = None,
    dropout: float,
) -> Tensor:
    """What `branch` takes."""
    out = part(hidden if input_norm is None else input_norm.account(hidden, ledger), ledger)
    out = out if output_norm is None else output_norm.account(out, ledger)
    return ledger.dropout(out, dropout)


@own_frame
def account_residual(
    part: Callable[[Tensor, Ledger], Tensor],
    hidden: States,
    ledger: Ledger,
    *,
    input_norm: Norm | None = None,
    output_norm: Norm | None = None,
    sum_norm: Norm | None = None,
    dropout: float,
    recompute: bool = False,
    reads: Callable[[Tensor, Ledger], Tensor] | None = None,
) -> Tensor:
    """What `residual` takes; with `recompute` the part is told twice, and nothing of it is kept but what it reads.

    reads: of the states, the rows that the part is handed, where they are not the states themselves.
    """

    @own_frame
    def step(x: Tensor, ledger: Ledger) -> Tensor:
        rows = x if reads is None else reads(x, ledger)
        added = account_branch(part, rows, ledger, input_norm=input_norm, output_norm=output_norm, dropout=dropout)
        total = ledger.add(x, added)
        return total if sum_norm is None else sum_norm.account(total, ledger)

    return ledger.checkpoint(step, hidden) if recompute and ledger.training else step(hidden, ledger)
