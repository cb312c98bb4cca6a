"""Which units are kept: those of the highest scores, an exact number of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.errors import InputError
from gossamer.training.pruning.units import Units

__all__ = ["by_structure", "check_share", "keep_highest", "least_share", "number_kept", "ranked_together"]


def by_structure(units: Sequence[Units]) -> list[list[Units]]:
    """The units of each structure, which are ranked among themselves: others are sums over other numbers of weights."""
    kinds = dict.fromkeys(one.structure for one in units)
    return [[one for one in units if one.structure == kind] for kind in kinds]


def number_kept(share: float, number: int) -> int:
    """How many of so many a share is, the nearest whole number."""
    return round(share * number)


def ranked_together(units: Sequence[Units], scope: str) -> list[tuple[str, int]]:
    """What is ranked by itself, and of how many units each: the model, or its maps, or their rows."""
    if scope == "global":
        return [("the model", sum(one.number for one in units))]
    return [(one.map, one.counts[1] if scope == "row" else one.number) for one in units]


def least_share(number: int) -> float:
    """The least share, of two digits, of which one of so many is kept."""
    share = f"{0.5 / number:.1e}"
    exponent = int(share.partition("e")[2])
    fits = number_kept(float(share), number) > 0
    return float(share) if fits else round(float(share) + 10.0 ** (exponent - 1), 1 - exponent)


def check_share(units: Sequence[Units], share: float, scope: str) -> None:
    """InputError where the share leaves none of what is ranked together."""
    where, number = min(ranked_together(units, scope), key=lambda ranked: ranked[1])
    if number_kept(share, number) == 0:
        row = "a row of " if scope == "row" else ""
        raise InputError(
            f"keep is {share}; of the {number:,} {units[0].structure} units of {row}{where} that leaves none: keep "
            f"{least_share(number)} or more"
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
    kept = scores >= least
    if bool((kept.sum(1) == count).all()):  # no equal scores where it ends: there is nothing to count
        return kept
    above, equal = scores > least, scores == least
    room = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= room))
