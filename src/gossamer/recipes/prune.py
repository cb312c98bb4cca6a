"""Prune: a model of which the weights that matter least are 0."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.checkpoints import load
from gossamer.checks import as_python, is_finite, is_whole, require
from gossamer.errors import InputError, plural, quote
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.recipes.finetune import NOTHING, Data, output_folder
from gossamer.recipes.pruning.calibration import calibrate
from gossamer.recipes.pruning.density import describe_density
from gossamer.recipes.pruning.latency import compare_times, measured_times
from gossamer.recipes.pruning.left import notes_on, what_is_left
from gossamer.recipes.pruning.one_shot import prune_at_once
from gossamer.recipes.pruning.options import check_read
from gossamer.recipes.pruning.training import Lesson
from gossamer.recipes.receipts.measure import on_cpu, read_measure
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.removal import remove
from gossamer.recipes.states import compare_states
from gossamer.settings import plain_fields
from gossamer.surgery.rebuild import rebuild
from gossamer.training.launched import is_first_process
from gossamer.training.loop import Resume
from gossamer.training.pruning.scores import Calibrated, Measured, OfWeights, Score
from gossamer.training.pruning.settings import Scope, Selection, check_ranks
from gossamer.training.pruning.units import Units, maps_of

__all__ = ["prune"]

ByLayer = Mapping[int, Collection[int]]
"""Numbers, from 0, by the number of their layer, from 0."""
_TOKENS = 128
"""Of the text that a pruned model's states are compared with those before on."""


def prune(
    model: Model | str | Path, train: Data | None = None, evaluate: Data | float | None = None, *,
    heads: ByLayer | None = None, neurons: ByLayer | None = None, layers: Sequence[int] | None = None,
    score: str = "movement", structure: str | Sequence[str] = "weight", keep: float | None = None,
    latency: float | None = None, scope: Scope = "layer", block: Sequence[int] = (32, 32), samples: int = 128,
    refine: bool | float = True, teacher: Model | str | Path | None = None, epochs: float = 6,
    output: str | Path | None = None, head: str | None = None, columns: Mapping[str, str] = NOTHING,
    learning_rate: float = 5e-5, batch: int = 16, length: int | None = None, seed: int = 0,
    measure: bool | Mapping[str, Any] = False, settings: Mapping[str, Any] = NOTHING, resume: Resume = "auto",
    remark: Callable[[str], None] = lambda text: None,
) -> tuple[Model, Receipt]:  # fmt: skip
    """Set to 0 what matters least of a model's layers; a copy, in the same format, and a receipt.

    model: a model, or what `gossamer.load` takes. Its embeddings and head stay whole. train: what it learns from while
    it is pruned, as `gossamer.finetune` reads it, and `evaluate`; None prunes at once, without training.

    score: what tells what matters: "magnitude", "random", and in a training "movement", "soft-movement" and "l0"; or,
    of so many `samples` of `train`, its rows, and without training, "gradient" and "wanda". structure: which weights
    are kept or removed together: "weight", each by itself; "block", rectangles of `block` rows and columns; "heads" of
    attention; "neurons" of the feed-forward; "layers", a layer's attention or its feed-forward; "hybrid", blocks in
    attention and neurons in the feed-forward; or several of these. A unit's score is the mean of its weights', or is
    learnt. keep: the share of such units that stays, 0.1 unless given; or latency: the share of the model's time here
    that what stays may take, by a table of each part's time at each width, measured first (for heads, neurons, layers).
    scope: of each map ("layer"), of each row of its units ("row"), or of all maps of a structure together ("global").

    A training ends with that by a cubic schedule with warm-up and cool-down, its embeddings as they are. refine:
    whether another one follows, half as long or of so many epochs, in which what is 0 stays so. teacher: a model with
    the same head that is learnt from in both, as in `gossamer.distill`. epochs, head, columns, learning_rate, batch,
    length, seed, output, resume: as in `gossamer.finetune`; settings: other fields of a `TrainingConfig`, such as
    {"pruning.cooldown": 0.3} or {"objective.temperature": 4}. A run that was killed goes on exactly, with the table of
    times in `output/latency.json`. measure: whether the model is measured before and after, in the receipt's
    `comparison`; settings of `gossamer.compare`, such as {"latency": False}, say how.

    heads, neurons, layers: in place of all that, what to remove by name, as `gossamer.recipes.removal.remove` takes it:
    {0: [1, 2]} are two heads of the first layer. The model is smaller then.

    Raises InputError for what is no such setting, for a model whose maps are not kept whole, for a share that would
    leave a map without any unit, for a latency that cannot be had, and as `gossamer.finetune` does.

    Sources: Sanh et al. 2020 (arXiv 2005.07683); Lagunas et al. 2021 (arXiv 2109.04838); Kurtic et al. 2023 (ZipLM,
    arXiv 2302.04089) for the table of times.
    """
    options = dict(locals())  # by the names of the parameters
    compared = read_measure(measure)
    if not (heads is None and neurons is None and layers is None):
        require(train is None, "train", train, "left out where heads, neurons or layers are named: they go untrained")
        check_read(prune, options, "named")
        return _prune_named(model, heads, neurons, () if layers is None else layers, compared)
    kind = _kind_of(score)
    selection = Selection(structure=structure, keep=keep, latency=latency, scope=scope, block=block)  # type: ignore[arg-type]
    asked = _asked(selection, score, seed, samples, refine)
    if train is None:
        once = _measured(score)
        check_read(prune, options, "at once")
        return _prune_at_once(model, once, selection, asked, seed, None, compared, remark)
    check_read(prune, options, "calibrated" if issubclass(kind, Calibrated) else "training")
    lesson = Lesson.read(model, train, options, remark=remark)
    if issubclass(kind, Calibrated):
        return _prune_at_once(model, kind(), selection, asked, seed, (lesson, samples), compared, remark)
    return _prune_in_training(lesson, selection, asked | {"refine": as_python(refine)}, output, compared)


def _asked(selection: Selection, score: str, seed: object, samples: object, refine: Any) -> dict[str, Any]:
    """What was asked for, as the receipt tells it; InputError for numbers that cannot be."""
    require(is_whole(seed, 0, 2**63 - 1), "seed", seed, "a whole number, 0 or more")
    require(is_whole(samples, 1), "samples", samples, "a whole number of rows, 1 or more")
    fits = isinstance(refine, bool) or (is_finite(as_python(refine)) and refine > 0)
    require(fits, "refine", refine, "true, false, or a number of epochs above 0")
    if selection.latency is not None:
        check_ranks(score)
    structures = selection.structures
    share = {"keep" if selection.latency is None else "latency": selection.share}
    asked = {"score": score, "structure": "+".join(structures), **share, "scope": selection.scope}
    return asked | ({"block": "x".join(map(str, selection.block))} if "block" in structures else {})


def _prune_named(
    model: Model | str | Path, heads: ByLayer | None, neurons: ByLayer | None, layers: Sequence[int],
    compared: Mapping[str, Any] | None,
) -> tuple[Model, Receipt]:  # fmt: skip
    """Without what is named, which is removed, not set to 0."""
    heads, neurons, layers = as_python((heads, neurons, layers))
    if not any(map(_counts, (heads, neurons, layers))):
        raise InputError("heads, neurons and layers name nothing that is to be removed; name some, or leave them out")
    old = load(model) if isinstance(model, str | Path) else check_model(model)
    check_one_text(old, "prune")
    new = remove(old, heads=heads, neurons=neurons, layers=layers)
    named = {"heads": heads, "neurons": neurons, "layers": layers}
    named = {name: value for name, value in named.items() if value is not None and len(value)}
    measured, read = compare_states(old, new, (min(_TOKENS, old.architecture.length),), "pruning")
    gone = (
        f"{plural(sum(map(len, (heads or {}).values())), 'head')}, "
        f"{plural(sum(map(len, (neurons or {}).values())), 'neuron')} and {plural(len(layers), 'layer')} were removed"
    )
    receipt = Receipt(
        recipe="prune", source=old.source, settings=named,
        before=describe(old) | describe_density(old), after=describe(new) | describe_density(new), changes=(gone,),
        measured=measured, conditions=conditions(new) | read,
    )  # fmt: skip
    return _with_receipt(old, new, receipt, compared)


def _counts(named: object) -> bool:
    """Whether anything is named, or what is none of the kind, which is refused later."""
    if isinstance(named, Mapping):
        return any(map(_counts, named.values()))
    return named is not None and (not isinstance(named, Collection) or len(named) > 0)


def _prune_in_training(
    lesson: Lesson, selection: Selection, asked: dict[str, Any], output: str | Path | None,
    compared: Mapping[str, Any] | None,
) -> tuple[Model, Receipt]:  # fmt: skip
    given = lesson.given
    old = load(given) if isinstance(given, str | Path) else check_model(given)
    check_one_text(old, "prune")
    units = selection.units(old)
    with output_folder(output) as folder:
        settings = plain_fields(selection) | {"score": asked["score"]}
        pruned = lesson.prune(settings, Path(os.path.expanduser(folder)), asked["refine"])
    new, trainings = pruned.model, pruned.trainings
    steps = " and refined over ".join(f"{one.steps:,}" for one in trainings)
    receipt = Receipt.of_training("prune", asked, old, new, trainings[-1])
    has_penalty = Score.kinds[asked["score"]].penalty_weight is not None
    receipt = replace(
        receipt,
        **_told(old, new, units, selection.keep if has_penalty and selection.keep is not None else 1.0),
        changes=(*what_is_left(new, units), f"pruned over {steps} steps", *trainings[-1].lines()),
    )
    receipt = _with_times(receipt, new, units, pruned.settings)
    return _with_receipt(old, new, receipt, compared, lambda: pruned.judged(old))


def _kind_of(name: object) -> type[Score]:
    """The score of this name; "zeros" is the refining's own."""
    known = {kind: one for kind, one in Score.kinds.items() if not one.is_settled}
    fits = isinstance(name, str) and name in known
    require(fits, "score", name, f"one of {', '.join(map(repr, known))}")
    return known[str(name)]


def _measured(name: str) -> Measured:
    """The score of this name, which needs nothing but weights."""
    known = {kind: one for kind, one in Score.kinds.items() if issubclass(one, Measured)}
    if name not in known:
        raise InputError(
            f"score is {quote(name)}, which rows or texts tell; give some (train), or take {' or '.join(known)}"
        )
    return known[name]()


def _prune_at_once(
    model: Model | str | Path,
    score: OfWeights,
    selection: Selection,
    asked: dict[str, Any],
    seed: int,
    calibration: tuple[Lesson, int] | None,
    compared: Mapping[str, Any] | None,
    remark: Callable[[str], None],
) -> tuple[Model, Receipt]:
    old = load(model) if isinstance(model, str | Path) else check_model(model)
    check_one_text(old, "prune")
    units = selection.units(old)
    if selection.latency is not None:
        selection = replace(selection, times=measured_times(old, units, remark))
    new = rebuild(old, old.architecture, {}, source=str)
    seen: dict[str, Tensor] = {}
    if isinstance(score, Calibrated) and calibration is not None:
        whole = all(one.dtype in (torch.float32, torch.float64) for one in new.parameters())
        reader = new if whole else copy.deepcopy(new).float()
        seen, asked["samples"] = calibrate(reader, maps_of(units), score.reads, *calibration)
    prune_at_once(new, units, score, selection, seed, seen)
    measured, read = compare_states(old, new, (min(_TOKENS, old.architecture.length),), "pruning")
    asked |= {"seed": seed} if score.name == "random" else {}
    receipt = Receipt(
        recipe="prune", source=old.source, settings=asked, **_told(old, new, units),
        changes=tuple(what_is_left(new, units)), measured=measured, conditions=conditions(new) | read,
    )  # fmt: skip
    return _with_receipt(old, new, _with_times(receipt, new, units, selection), compared)


def _told(old: Model, new: Model, units: Sequence[Sequence[Units]], most: float = 1.0) -> dict[str, Any]:
    """What the receipt tells of both models, and the notes. most: of the units, where a penalty may leave more."""
    return {
        "before": describe(old) | describe_density(old),
        "after": describe(new) | describe_density(new),
        "notes": tuple(notes_on(new, units, most)),
    }


def _with_times(receipt: Receipt, new: Model, units: list[list[Units]], selection: Selection) -> Receipt:
    """The receipt with what a latency came to, in the table and as it is measured."""
    budget = selection.budget(new, units)
    if budget is None or not is_first_process():
        return receipt
    measured, timed = compare_times(new, budget)
    return replace(receipt, measured=receipt.measured | measured, conditions=receipt.conditions | timed)


def _with_receipt(
    old: Model, new: Model, receipt: Receipt, compared: Mapping[str, Any] | None,
    more: Callable[[], Mapping[str, Any]] = dict,
) -> tuple[Model, Receipt]:  # fmt: skip
    """The model and its receipt, with both models measured where that was asked for; more: of what else is compared."""
    if compared is not None and is_first_process():
        receipt = receipt.beside(on_cpu(old), on_cpu(new), **more(), **compared)
    new.receipt = receipt
    return new, receipt
