"""Which units are kept: those of the highest scores, an exact number of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
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
    """InputError where the share leaves a map without any unit, or with a ranking of all maps the model."""
    least = min(units, key=lambda one: one.number) if scope == "layer" else None
    number = sum(one.number for one in units) if least is None else least.number
    if number_kept(share, number) == 0:
        where = "the model" if least is None else least.map
        raise InputError(
            f"keep is {share}; of the {number:,} {units[0].structure} units of {where} that leaves none: keep "
            f"{1 / number:.2g} or more"
        )


def keep_highest(scores: Sequence[Float[Tensor, "..."]], share: float, scope: str) -> list[Float[Tensor, "..."]]:
    """Masks of 1 and 0, of this share of the units of each map, or with the scope "global" of all of them.

    Exactly so many, to the nearest whole number: of equal scores the first are kept.
    """
    if scope == "layer":
        return [_highest(one.flatten(), share).view_as(one).to(one.dtype) for one in scores]
    mask = _highest(torch.cat([one.flatten() for one in scores]), share)
    parts = mask.split([one.numel() for one in scores])
    return [part.view_as(one).to(one.dtype) for part, one in zip(parts, scores, strict=True)]


def _highest(scores: Float[Tensor, "number"], share: float) -> Tensor:
    count = number_kept(share, len(scores))
    if count in (0, len(scores)):
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    least = scores.kthvalue(len(scores) - count + 1).values
    mask = scores > least
    of_equal = (scores == least).nonzero().flatten()
    mask[of_equal[: count - int(mask.sum())]] = True
    return mask
