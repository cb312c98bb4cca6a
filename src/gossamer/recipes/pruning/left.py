"""What a pruning left of a model's units, and what it should be told of: lines for the receipt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gossamer.models.model import Model
from gossamer.recipes.pruning.density import empty_maps
from gossamer.training.pruning.units import Units, count_left

__all__ = ["notes_on", "what_is_left"]

_CALLED = {
    "weight": "single weights",
    "block": "blocks",
    "heads": "heads",
    "neurons": "neurons",
    "layers": "parts of layers",
}
_SHOWN = 4


def _counts(new: Model, some: Sequence[Units]) -> tuple[int, int]:
    """How many units of a structure are left, and how many there were."""
    return sum(count_left(new, one) for one in some), sum(one.number for one in some)


def what_is_left(new: Model, units: Sequence[Sequence[Units]]) -> Iterator[str]:
    """How many units of each structure are left."""
    for some in units:
        left, number = _counts(new, some)
        yield f"{left:,} of {number:,} {_CALLED[some[0].structure]} are left"


def notes_on(new: Model, units: Sequence[Sequence[Units]], most: float) -> Iterator[str]:
    """What the model is not, or not as was asked for. most: the share of the units that was to stay, at most."""
    for some in units:
        left, number = _counts(new, some)
        if left > most * number + len(some):  # each map rounds by itself
            yield (
                f"{left / number:.1%} of the {_CALLED[some[0].structure]} are left, more than was asked for: a score "
                "whose penalty removes needs more steps or a greater one (pruning.penalty)"
            )
    empty = empty_maps(new)
    if empty:
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        yield f"nothing is left of {', '.join(empty[:_SHOWN])}{more}: such a map adds its bias alone"
    yield "what is 0 stands in whole matrices: it takes as many bytes and as much time as before"
