"""Packed documents as other libraries write them: where each begins, instead of whose each token is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.errors import InputError, quote

__all__ = ["segments_from_cu_seqlens"]


def segments_from_cu_seqlens(cu_seqlens: Int[Tensor, "documents_and_one"] | Sequence[int]) -> Int[Tensor, "1 length"]:
    """The `segments` of documents packed one after the other, from where they begin and the last one ends.

    cu_seqlens: integers [documents + 1] that begin at 0 and do not fall, as flash-attention's varlen functions and
    `transformers`' packing collator have them; an empty document has no token. Returns document ids from 0, int64
    [1, length], for `attend(..., segments=)` and a model's `segments`.

    Raises InputError for anything else.
    """
    ends = cu_seqlens if isinstance(cu_seqlens, Tensor) else _tensor(cu_seqlens)
    if ends.ndim != 1 or len(ends) < 2 or ends.dtype.is_floating_point or ends.dtype == torch.bool:
        raise InputError(
            f"cu_seqlens is {ends.dtype} of shape {list(ends.shape)}; it must be integers [documents + 1], such as "
            "[0, 5, 12] for documents of 5 and 7 tokens"
        )
    lengths = ends.long().diff()
    if int(ends[0]) != 0 or bool((lengths < 0).any()):
        raise InputError(f"cu_seqlens is {quote(ends.tolist())}; it must begin at 0 and not fall")
    return torch.arange(len(lengths), device=ends.device).repeat_interleave(lengths)[None]


def _tensor(numbers: object) -> Tensor:
    try:
        return torch.as_tensor(numbers)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"cu_seqlens is {quote(numbers)}; it must list where documents begin") from None
