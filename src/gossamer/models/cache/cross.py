"""The keys and values that a cache keeps of the states which a stack attends to beside its own."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.kernels import attend
from gossamer.models.cache.one_query import attend_alone
from gossamer.patterns import Full

__all__ = ["CrossMemory"]


class CrossMemory:
    """Of one weight set of cross-attention: made at the first call, read at every one. No gradient flows through it."""

    def __init__(self) -> None:
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self._key_mask: Tensor | None = None
        self._blind: Tensor | None = None

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
        k, v = k.detach(), v.detach()
        if key_mask is not None:  # whatever padding holds reaches no row
            k, v = (one.masked_fill(~key_mask[:, None, :, None], 0) for one in (k, v))
        # Contiguous: they are read once for every new token.
        self._keys, self._values, self._key_mask = k.contiguous(), v.contiguous(), key_mask
        self._note_blind()

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch alone, in this order."""
        kept = (self._keys, self._values, self._key_mask)
        self._keys, self._values, self._key_mask = (None if one is None else one[rows.to(one.device)] for one in kept)
        self._note_blind()

    @torch.no_grad()
    def attend(
        self, q: Float[Tensor, "batch heads queries head_size"], scale: float | None
    ) -> Float[Tensor, "batch heads queries head_size"]:
        """Attention of q over what is kept."""
        assert self._keys is not None
        assert self._values is not None
        if q.shape[2] != 1 or not self._keys.shape[2]:
            return attend(q, self._keys, self._values, Full(), key_mask=self._key_mask, scale=scale)
        mask = None if self._key_mask is None else self._key_mask[:, None, None]
        return attend_alone(q, self._keys, self._values, scale, mask=mask, blind=self._blind)

    def _note_blind(self) -> None:
        """Find the rows whose other text has no token, once for all that is asked later."""
        blind = None if self._key_mask is None else ~self._key_mask.any(1)
        self._blind = None if blind is None or not bool(blind.any()) else blind[:, None, None, None]
