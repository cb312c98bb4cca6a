"""One part of a layer with what surrounds it: norm, dropout, the sum, and keeping or recomputing what it needs."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, is_grad_enabled
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers.norms import LayerNorm, RMSNorm
from gossamer.layers.slices import Cut
from gossamer.layers.split import SharedCut

__all__ = ["account_branch", "account_residual", "branch", "residual", "residual_in_slices"]

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
    part: Callable[[Tensor, Cut | SharedCut], Tensor],
    hidden: States,
    cuts: Sequence[Cut | SharedCut],
    *,
    input_norm: Norm | None = None,
    output_norm: Norm | None = None,
    sum_norm: Norm | None = None,
    dropout: float,
    recompute: bool = True,
) -> States:
    """What `residual` gives, slice by slice: of a slice nothing is kept for the backward pass, which reads it again.

    recompute: false keeps what one slice alone, a process's share, needs for that. part: is handed the rows that a
    slice reads, and gives those that it writes.
    """

    def step(x: Tensor, cut: Cut | SharedCut) -> Tensor:
        norms = {"input_norm": input_norm, "output_norm": output_norm}
        added = branch(lambda rows: part(rows, cut), cut.read(x), **norms, dropout=dropout)
        total = x[:, cut.start : cut.stop] + added
        return total if sum_norm is None else sum_norm(total)

    if is_grad_enabled() and (recompute or len(cuts) > 1):
        return torch.cat([checkpoint(step, hidden, cut, use_reentrant=False) for cut in cuts], 1)
    return torch.cat([step(hidden, cut) for cut in cuts], 1)


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
) -> Tensor:
    """What `residual` takes; with `recompute` the part is told twice, and nothing of it is kept but what it reads."""

    @own_frame
    def step(x: Tensor, ledger: Ledger) -> Tensor:
        added = account_branch(part, x, ledger, input_norm=input_norm, output_norm=output_norm, dropout=dropout)
        total = ledger.add(x, added)
        return total if sum_norm is None else sum_norm.account(total, ledger)

    return ledger.checkpoint(step, hidden) if recompute and ledger.training else step(hidden, ledger)
