"""A pretrained encoder in ALBERT's form: layers that share their weights, and a factorised embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gossamer.checkpoints import load
from gossamer.models.checks import require
from gossamer.models.heads import SentenceEmbedding
from gossamer.models.model import Model
from gossamer.models.model_argument import check_model, check_one_text
from gossamer.recipes.distill import Made, aim_of, check_terms, teach
from gossamer.recipes.finetune import Data
from gossamer.recipes.left_out import require_left_out
from gossamer.recipes.receipts.measure import on_cpu, read_measure
from gossamer.recipes.receipts.receipt import Receipt, conditions, describe
from gossamer.recipes.sharing.form import Form, shared_form
from gossamer.recipes.sharing.groups import Parts, Start
from gossamer.recipes.states import compare_states
from gossamer.training.loop import Resume
from gossamer.training.objectives import Match, Objective, TeacherCache

__all__ = ["share"]

_PROBED = (16, 128)
"""Tokens of the texts over which states are compared, where the model reads so many."""

_OF_A_TRAINING = (
    "evaluate", "matches", "temperature", "soft_weight", "task_weight", "cosine_weight", "task", "cache", "epochs",
    "output", "settings", "resume",
)  # fmt: skip
"""What is read where something learns."""


def share(
    model: Model | str | Path, train: Data | None = None, *, parts: Parts = "both", groups: int = 1,
    embedding_size: int | None = None, start: Start = "average", evaluate: Data | float | None = None,
    matches: Sequence[Match] | None = None, temperature: float = 2.0, soft_weight: float = 5.0,
    task_weight: float = 2.0, cosine_weight: float = 1.0, task: str | Mapping[str, Any] | Objective | None = None,
    cache: str | Path | TeacherCache | None = None, epochs: float = 3, output: str | Path | None = None,
    measure: bool | Mapping[str, Any] = False, settings: Mapping[str, Any] = MappingProxyType({}),
    resume: Resume = "auto", remark: Callable[[str], None] = lambda text: None,
) -> tuple[Model, Receipt]:  # fmt: skip
    """Give a model ALBERT's form: layers that share their weights in groups, and a factorised embedding.

    model: an encoder, or what `gossamer.load` takes; it is left as it was. Decoders share layers too.
    parts: of the layers of a group what is shared: "both", "attention", "feed-forward", or "none". groups: how many
    there are, of neighbouring layers, sizes rounded as ALBERT's are. start: their weights, "average", the mean of their
    layers', or the number of a layer in each group, from 0. embedding_size: columns of the tables, with a map behind
    them, from the tables' singular vectors (`factorise`); None leaves them.

    train: what the shared model is healed on, with the model itself as its teacher, as `gossamer.distill` teaches a
    student that is given; None: it is not. evaluate and all that follows are as they are there, but matches, which are
    the states behind every layer unless given. A sentence encoder is taught its vectors, from texts alone; unless given
    there are no matches then, and temperature and weights are refused.

    The result is saved as `albert` where its format can hold it, else as Gossamer's own, which the receipt says. A
    shared model is not what it was before it has learnt: the receipt tells how far its states are off. Raises
    InputError for other parts, groups or sizes than there are, layers of a group that are shaped differently, weights
    that are kept in parts, settings of a training without `train`, and as `gossamer.distill` does.

    Source: Lan et al. 2020 (ALBERT, arXiv 1909.11942), section 3.1; there it is trained from scratch.
    """
    options = dict(locals())  # by the names of the parameters
    require(isinstance(settings, Mapping), "settings", settings, "a mapping of fields of a TrainingConfig")
    compared = read_measure(measure)
    if train is None:
        require_left_out(share, options, _OF_A_TRAINING, "nothing learns without train")
    dtype = None if train is None else "float32"
    old = load(model, dtype=dtype) if isinstance(model, str | Path) else check_model(model)
    check_one_text(old, "share")
    form = Form(parts=parts, groups=groups, embedding_size=embedding_size, start=start)
    new, changes = shared_form(old, form)
    measured, read = compare_states(old, new, _lengths(old), "sharing")
    if train is None:
        new.receipt = _receipt(old, new, form, changes, measured, read)
        if compared is not None:
            new.receipt = new.receipt.beside(on_cpu(old), on_cpu(new), **compared)
        return new, new.receipt
    aim = aim_of("embed" if isinstance(old.architecture.head, SentenceEmbedding) else None, task, old)
    terms = {
        "temperature": temperature, "soft_weight": soft_weight, "task_weight": task_weight,
        "cosine_weight": cosine_weight, "matches": _matches(old, () if matches is None and aim is None else matches),
    }  # fmt: skip
    check_terms(share, aim, terms)
    made = Made(recipe="share", student=new.float(), asked=form.to_dict(), changes=changes, origin=form.origin())
    new, receipt = teach(
        old, made, aim, terms, train, evaluate,
        cache=cache, epochs=epochs, output=output, compared=compared, settings=settings, resume=resume, remark=remark,
    )  # fmt: skip
    new.receipt = _with_states(receipt, measured, *compare_states(old, new, _lengths(old), "sharing"))
    return new, new.receipt


def _lengths(model: Model) -> tuple[int, ...]:
    longest = model.reading_length()
    return tuple(dict.fromkeys(min(length, longest) for length in _PROBED))


def _matches(old: Model, matches: Any) -> Any:
    """Those that are given, or the states behind every layer, which together count 1."""
    if matches is not None:
        return tuple(matches) if isinstance(matches, list) else matches  # another kind is refused with the terms
    layers = len(old.architecture.layers)
    return tuple(Match(teacher=i, student=i, weight=1 / layers) for i in range(layers))


def _receipt(
    old: Model, new: Model, form: Form, changes: tuple[str, ...], measured: dict[str, float], read: dict[str, str]
) -> Receipt:
    """The receipt of a model that has not learnt."""
    return Receipt(
        recipe="share",
        source=old.source,
        settings=form.to_dict(),
        before=describe(old),
        after=describe(new),
        changes=changes,
        measured=measured,
        conditions=conditions(new) | read,
    )


def _with_states(
    receipt: Receipt, at_start: dict[str, float], measured: dict[str, float], read: dict[str, str]
) -> Receipt:
    """The receipt of a training with how far states were off before it, and are behind it."""
    states = {f"{name}_before_training": value for name, value in at_start.items()} | measured
    return replace(receipt, measured=states | receipt.measured, conditions=receipt.conditions | read)
