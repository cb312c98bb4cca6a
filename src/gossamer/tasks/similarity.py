"""How alike two vectors are, by the four measures of sentence-transformers; more is more alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import InputError, quote
from gossamer.models.heads import Similarity

__all__ = ["Vectors", "compare_all", "compare_pairs"]

Vectors = Tensor | np.ndarray | Sequence[Tensor] | Sequence[np.ndarray] | Sequence[Sequence[float]]
"""[rows, size], or one vector [size]."""


def compare_all(measure: Similarity, a: Vectors, b: Vectors) -> Float[Tensor, "rows others"]:
    """Each of `a` with each of `b`: cosine, dot product, or the negative of the euclidean or manhattan distance."""
    rows, others = _both(a, b)
    if measure == "cosine":
        return F.normalize(rows, dim=-1) @ F.normalize(others, dim=-1).T
    if measure == "dot":
        return rows @ others.T
    return -torch.cdist(rows, others, p=2.0 if measure == "euclidean" else 1.0)


def compare_pairs(measure: Similarity, a: Vectors, b: Vectors) -> Float[Tensor, "rows"]:
    """Each of `a` with the one of `b` in the same row. InputError for different numbers of rows."""
    rows, others = _both(a, b)
    if len(rows) != len(others):
        raise InputError(f"there are {len(rows)} and {len(others)} vectors; pairs need as many of each")
    if measure == "cosine":
        return (F.normalize(rows, dim=-1) * F.normalize(others, dim=-1)).sum(dim=-1)
    if measure == "dot":
        return (rows * others).sum(dim=-1)
    return -torch.linalg.vector_norm(rows - others, ord=2 if measure == "euclidean" else 1, dim=-1)


def _both(a: Vectors, b: Vectors) -> tuple[Tensor, Tensor]:
    rows, others = _table("the first vectors", a), _table("the second vectors", b)
    if not rows.numel() or not others.numel():  # an empty list does not say how many numbers its vectors have
        size = max(rows.shape[1], others.shape[1])
        rows, others = (x if x.numel() else x.new_empty(len(x), size) for x in (rows, others))
    if rows.shape[1] != others.shape[1]:
        raise InputError(f"vectors of {rows.shape[1]} and of {others.shape[1]} numbers cannot be compared")
    common = torch.promote_types(rows.dtype, others.dtype)
    return rows.to(common), others.to(common)


def _table(name: str, vectors: Vectors) -> Float[Tensor, "rows size"]:
    if isinstance(vectors, Sequence) and len(vectors) and isinstance(vectors[0], Tensor):
        table = torch.stack([torch.as_tensor(vector) for vector in vectors])
    else:
        try:
            is_typed = isinstance(vectors, Tensor | np.ndarray)
            table = torch.as_tensor(vectors if is_typed else np.asarray(vectors, dtype=np.float32))
        except (TypeError, ValueError):
            raise InputError(f"{name} are {quote(vectors)}; give a tensor or array of numbers [rows, size]") from None
    if table.dim() not in (1, 2) or table.dtype == torch.bool or table.is_complex():
        raise InputError(f"{name} are {table.dtype} {list(table.shape)}; give numbers [rows, size]")
    if table.dim() == 1:
        table = table[None] if len(table) else table.reshape(0, 0)
    return table if table.is_floating_point() else table.float()
