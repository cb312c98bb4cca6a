"""The keys and values that a cache keeps of the states which a stack attends to beside its own."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.kernels import attend
from gossamer.patterns import Full

__all__ = ["CrossMemory"]


class CrossMemory:
    """Of one weight set of cross-attention: made at the first call, read at every one. No gradient flows through it."""

    def __init__(self) -> None:
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._key_mask: Tensor | None = None

    @property
    def filled(self) -> bool:
        """Whether it keeps anything."""
        return self._keys is not None

    @property
    def bytes(self) -> int:
        """What keys and values take."""
        return sum(one.nbytes for one in (self._keys, self._values) if one is not None)

    def fill(
        self,
        k: Float[Tensor, "batch key_heads keys head_size"],
        v: Float[Tensor, "batch key_heads keys head_size"],
        key_mask: Bool[Tensor, "batch keys"] | None,
    ) -> None:
        """Keep the keys and values of the other states, and which of them are real tokens."""
        # Contiguous: they are read once for every new token.
        self._keys, self._values, self._key_mask = k.detach().contiguous(), v.detach().contiguous(), key_mask

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch alone, in this order."""
        kept = (self._keys, self._values, self._key_mask)
        self._keys, self._values, self._key_mask = (None if one is None else one[rows.to(one.device)] for one in kept)

    @torch.no_grad()
    def attend(
        self, q: Float[Tensor, "batch heads queries head_size"], scale: float | None
    ) -> Float[Tensor, "batch heads queries head_size"]:
        """Attention of q over what is kept."""
        assert self._keys is not None
        assert self._values is not None
        return attend(q, self._keys, self._values, Full(), key_mask=self._key_mask, scale=scale)
