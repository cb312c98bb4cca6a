"""One part of a layer with what surrounds it: norm, dropout, the sum, and keeping or recomputing what it needs."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, is_grad_enabled, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

__all__ = ["residual"]

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
