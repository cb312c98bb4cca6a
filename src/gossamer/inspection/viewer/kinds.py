"""What a token looks at, told apart by where that stands: what shares of attention are of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

__all__ = ["KINDS", "NEAR", "PairKinds"]

KINDS = ("global", "first", "special", "itself", "neighbours", "near", "distant")
"""Tokens that all others see; the first one; special ones such as [SEP]; the token itself; the next and the one before;
those at most `NEAR` tokens away; all others. What is several of these is the first of them."""

NEAR = 64


@dataclass(frozen=True, kw_only=True)
class PairKinds:
    """Which of `KINDS` a pair of tokens is, by their places: is_global and is_special tell of the keys.

    of_one_text: queries and keys are the same tokens; of two texts no token is near another.
    """

    is_global: Bool[Tensor, "keys"] | None
    is_special: Bool[Tensor, "keys"]
    of_one_text: bool

    def __call__(self, rows: Int[Tensor, "rows"], keys: Int[Tensor, "keys"]) -> UInt8[Tensor, "rows keys"]:
        """Indices into `KINDS`."""
        shape = (len(rows), len(keys))
        found = torch.full(shape, KINDS.index("distant"), dtype=torch.uint8, device=rows.device)
        if self.of_one_text:
            apart = (rows.int()[:, None] - keys.int()).abs_()
            for name, most in (("near", NEAR), ("neighbours", 1), ("itself", 0)):
                found.masked_fill_(apart <= most, KINDS.index(name))
        found.masked_fill_(self.is_special[keys], KINDS.index("special"))
        found.masked_fill_(keys == 0, KINDS.index("first"))
        return found if self.is_global is None else found.masked_fill_(self.is_global[keys], KINDS.index("global"))
