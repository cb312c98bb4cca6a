"""One part of a layer with what surrounds it: norm, dropout, the sum, and keeping or recomputing what it needs."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, is_grad_enabled, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gossamer.kernels.ledger import Ledger, own_frame
from gossamer.layers.norms import LayerNorm, RMSNorm

__all__ = ["account_residual", "residual"]

States = Float[Tensor, "batch length hidden"]


def residual(
    part: Callable[[Tensor], Tensor],
    norm: nn.Module,
    hidden: States,
    *,
    before: bool,
    dropout: float,
    recompute: bool = False,
) -> States:
    """`hidden + dropout(part(hidden))`, normalised: what the part reads (`before`), or else the sum.

    With `recompute`, `hidden` alone is kept for the backward pass, which runs the part once more with the same dropout
    (Chen et al. 2016, arXiv 1604.06174; Sparse Transformer, section 5.4): so the part must not change anything.
    """

    def step(x: Tensor) -> Tensor:
        total = x + F.dropout(part(norm(x) if before else x), dropout)
        return total if before else norm(total)

    if recompute and is_grad_enabled():
        return checkpoint(step, hidden, use_reentrant=False)
    return step(hidden)


@own_frame
def account_residual(
    part: Callable[[Tensor, Ledger], Tensor],
    norm: LayerNorm | RMSNorm,
    hidden: States,
    ledger: Ledger,
    *,
    before: bool,
    dropout: float,
    recompute: bool = False,
) -> Tensor:
    """What `residual` takes; with `recompute` the part is told twice, and nothing of it is kept but what it reads."""

    @own_frame
    def step(x: Tensor, ledger: Ledger) -> Tensor:
        out = part(norm.account(x, ledger) if before else x, ledger)
        total = ledger.add(x, ledger.dropout(out, dropout))
        return total if before else norm.account(total, ledger)

    return ledger.checkpoint(step, hidden) if recompute and ledger.training else step(hidden, ledger)
