"""How far two vectors go together: in a line (Pearson), or in order (Spearman)."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.metrics.estimate import Values, read_values

__all__ = ["pearson", "spearman"]


def pearson(a: Values, b: Values) -> float | None:
    """Pearson's correlation of two vectors [n]; None where either is constant.

    Source: Pearson 1895. Raises InputError for no values, NaN, infinities and lengths that differ.
    """
    a, b = _read(a, b)
    # A constant vector keeps rounding noise about its mean, which would correlate with anything.
    if bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return None
    centred = torch.stack([x / x.abs().max() for x in (a, b)])
    centred = centred - centred.mean(dim=1, keepdim=True)
    centred = centred / centred.norm(dim=1, keepdim=True)
    return min(1.0, max(-1.0, float(centred.prod(dim=0).sum())))


def spearman(a: Values, b: Values) -> float | None:
    """Spearman's rank correlation of two vectors [n], ties at their mean rank; None where either is constant.

    Source: Spearman 1904. Raises InputError for no values, NaN, infinities and lengths that differ.
    """
    return pearson(*map(_mean_ranks, _read(a, b)))


def _read(a: Values, b: Values) -> tuple[Tensor, Tensor]:
    first, second = read_values("a", a), read_values("b", b)
    if len(first) != len(second):
        raise InputError(f"{len(first)} values against {len(second)}; give pairs")
    return first, second


def _mean_ranks(x: Tensor) -> Tensor:
    _, position, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[position]
