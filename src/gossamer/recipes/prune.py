"""Prune: a model of which the weights that matter least are 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from gossamer.checkpoints import load
from gossamer.checks import is_whole, require
from gossamer.errors import InputError, quote
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model
from gossamer.recipes.pruning.density import describe_density, empty_maps
from gossamer.recipes.pruning.one_shot import prune_at_once
from gossamer.recipes.rebuild import rebuild
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.states import compare_states
from gossamer.training.pruning.choice import by_structure, check_share
from gossamer.training.pruning.scores import Measured, Score
from gossamer.training.pruning.units import Units, check_structures, count_left, find_units

__all__ = ["prune"]

Scope = Literal["layer", "global"]
_TOKENS = 128
"""Of the text that a pruned model's states are compared with those before on."""
_CALLED = {"weight": "single weights", "block": "blocks", "heads": "heads", "neurons": "neurons"}
_SHOWN = 4


def prune(
    model: Model | str | Path, *,
    score: str = "movement", structure: str | Sequence[str] = "weight", keep: float = 0.1,
    scope: Scope = "layer", block: Sequence[int] = (32, 32), seed: int = 0,
) -> tuple[Model, Receipt]:  # fmt: skip
    """Set to 0 what matters least of a model's layers; a copy, in the same format, and a receipt.

    model: a model, or what `gossamer.load` takes. Its embeddings and head stay whole. score: what is measured of each
    weight: "magnitude" or "random". structure: which weights are kept or removed together: "weight", each by itself;
    "block", rectangles of `block` rows and columns; "heads" of attention; "neurons" of the feed-forward; "hybrid",
    blocks in attention and neurons in the feed-forward; or several of these. A unit's score is the mean of its weights'
    scores.
    keep: the share of units that stay, from 0 to 1. scope: whether so many stay of each map ("layer"), or of all maps
    of a structure together ("global"). seed: of what is drawn.

    Raises InputError for what is no such setting, for a model whose maps are not kept whole, and for a share that would
    leave a map without any unit.

    Sources: Sanh et al. 2020 (arXiv 2005.07683); Lagunas et al. 2021 (arXiv 2109.04838).
    """
    measure, structures = _score(score), check_structures(structure)
    fits = type(keep) in (int, float) and 0 < keep <= 1
    require(fits, "keep", keep, "a share of what is there, above 0, up to 1")
    require(scope in ("layer", "global"), "scope", scope, "'layer' or 'global'")
    is_pair = isinstance(block, tuple | list) and len(block) == 2 and all(is_whole(size, 1) for size in block)
    require(is_pair, "block", block, "rows and columns, two whole numbers, such as (32, 32)")
    require(is_whole(seed, 0, 2**63 - 1), "seed", seed, "a whole number, 0 or more")
    old = load(model) if isinstance(model, str | Path) else check_model(model)
    units = find_units(old, structures, (int(block[0]), int(block[1])))
    for some in by_structure(units):
        check_share(some, keep, scope)
    new = rebuild(old, old.architecture, {}, source=str)
    prune_at_once(new, units, measure, keep, scope, seed)
    asked = {"score": score, "structure": "+".join(structures), "keep": keep, "scope": scope}
    asked |= {"block": "x".join(map(str, block))} if "block" in structures else {}
    asked |= {"seed": seed} if score == "random" else {}
    new.receipt = _receipt(old, new, asked, units)
    return new, new.receipt


def _score(name: object) -> Measured:
    """The score of this name, which needs nothing but weights."""
    known = {kind: one for kind, one in Score.kinds.items() if issubclass(one, Measured)}
    if name not in known:
        raise InputError(f"score is {quote(name)}; it must be one of {', '.join(map(repr, known))}")
    return known[str(name)]()


def _receipt(old: Model, new: Model, asked: dict[str, Any], units: Sequence[Units]) -> Receipt:
    measured, read = compare_states(old, new, (min(_TOKENS, old.architecture.length),), "pruning")
    return Receipt(
        recipe="prune", source=old.source, settings=asked,
        before=describe(old) | describe_density(old), after=describe(new) | describe_density(new),
        changes=tuple(_what_is_left(new, units)), measured=measured, conditions=conditions(new) | read,
        notes=tuple(_notes(new, units)),
    )  # fmt: skip


def _what_is_left(new: Model, units: Sequence[Units]) -> Iterator[str]:
    for some in by_structure(units):
        left, number = sum(count_left(new, one) for one in some), sum(one.number for one in some)
        yield f"{left:,} of {number:,} {_CALLED[some[0].structure]} are left"


def _notes(new: Model, units: Sequence[Units]) -> Iterator[str]:
    empty = empty_maps(new)
    if empty:
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        yield f"nothing is left of {', '.join(empty[:_SHOWN])}{more}: such a map adds its bias alone"
    yield "what is 0 stands in whole matrices: it takes as many bytes and as much time as before"
