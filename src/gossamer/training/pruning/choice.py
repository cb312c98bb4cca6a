"""Which units are kept: those of the highest scores, an exact number of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.errors import InputError
from gossamer.training.pruning.units import Units

__all__ = ["by_structure", "check_share", "keep_highest", "number_kept"]


def by_structure(units: Sequence[Units]) -> list[list[Units]]:
    """The units of each structure, which are ranked among themselves: others are sums over other numbers of weights."""
    kinds = dict.fromkeys(one.structure for one in units)
    return [[one for one in units if one.structure == kind] for kind in kinds]


def number_kept(share: float, number: int) -> int:
    """How many of so many a share is, the nearest whole number."""
    return round(share * number)


def check_share(units: Sequence[Units], share: float, scope: str) -> None:
    """InputError where the share leaves none of what is ranked together."""
    if scope == "global":
        where, number = "the model", sum(one.number for one in units)
    else:
        sizes = {one.map: one.counts[1] if scope == "row" else one.number for one in units}
        where = min(sizes, key=lambda name: sizes[name])
        number = sizes[where]
    if number_kept(share, number) == 0:
        ranked = "a row of " if scope == "row" else ""
        raise InputError(
            f"keep is {share}; of the {number:,} {units[0].structure} units of {ranked}{where} that leaves none: keep "
            f"{1 / number:.2g} or more"
        )


def keep_highest(scores: Sequence[Float[Tensor, "down beside"]], share: float, scope: str) -> list[Tensor]:
    """Masks of 1 and 0, of this share of the units of each row of a map ("row"), of each map ("layer"), or of all.

    Exactly so many, to the nearest whole number: of equal scores the first are kept.
    """
    if scope == "global":
        mask = _highest(torch.cat([one.flatten() for one in scores])[None], share)[0]
        parts = mask.split([one.numel() for one in scores])
        return [part.view_as(one).to(one.dtype) for part, one in zip(parts, scores, strict=True)]
    rows = [one if scope == "row" else one.reshape(1, -1) for one in scores]
    return [_highest(row, share).view_as(one).to(one.dtype) for row, one in zip(rows, scores, strict=True)]


def _highest(scores: Float[Tensor, "rows number"], share: float) -> Bool[Tensor, "rows number"]:
    """Of each row the highest."""
    number = scores.shape[1]
    count = number_kept(share, number)
    if count in (0, number):
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    least = scores.kthvalue(number - count + 1, dim=1, keepdim=True).values
    above, equal = scores > least, scores == least
    room = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= room))
