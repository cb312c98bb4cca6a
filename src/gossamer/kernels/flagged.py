"""Which tokens are flagged in any text of a batch, as an exported graph finds them: by their number, an open size."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.kernels.torch_state import promise

__all__ = ["flagged_anywhere"]


def flagged_anywhere(flags: Bool[Tensor, "batch length"]) -> Int[Tensor, "found"]:
    """Their indices, rising, and the first token's so that there is always one."""
    first = torch.arange(flags.shape[1], device=flags.device) == 0
    found = (flags.any(0) | first).nonzero()[:, 0]
    if torch.compiler.is_exporting():
        promise(found.shape[0] >= 1)
    return found
