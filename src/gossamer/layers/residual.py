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
    hidden: States,
    *,
    input_norm: nn.Module | None = None,
    output_norm: nn.Module | None = None,
    sum_norm: nn.Module | None = None,
    dropout: float,
    recompute: bool = False,
) -> States:
    """`sum_norm(hidden + dropout(output_norm(part(input_norm(hidden)))))`; a norm that is None changes nothing.

    With `recompute`, `hidden` alone is kept for the backward pass, which runs the part once more with the same dropout
    (Chen et al. 2016, arXiv 1604.06174; Sparse Transformer, section 5.4): so the part must not change anything.
    """

    def step(x: Tensor) -> Tensor:
        out = part(x if input_norm is None else input_norm(x))
        total = x + F.dropout(out if output_norm is None else output_norm(out), dropout)
        return total if sum_norm is None else sum_norm(total)

    if recompute and is_grad_enabled():
        return checkpoint(step, hidden, use_reentrant=False)
    return step(hidden)
