"""A head for labelled rows: the model's own where it fits them, else one that is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gossamer.checkpoints import load
from gossamer.checkpoints.new_heads import usual_head
from gossamer.families import family_for, get_family
from gossamer.models.heads import Head, QuestionAnswering, SequenceClassification
from gossamer.models.initial import initialise
from gossamer.models.model import Model
from gossamer.recipes.rebuild import rebuild
from gossamer.training.objectives import LabelObjective

__all__ = ["fits", "with_new_head"]


def fits(objective: LabelObjective, head: Head | None, rows: Sequence[Any]) -> bool:
    """Whether a model's head is for these rows: their kind of labels, and all of them among its own."""
    if not isinstance(head, objective.heads):
        return False
    if isinstance(head, QuestionAnswering):
        return True
    wanted: Any = objective.new_head(rows, head)
    theirs: tuple[str, ...] = head.labels  # type: ignore[attr-defined]
    if isinstance(head, SequenceClassification):
        if head.problem_type not in (None, wanted.problem_type):
            return False
        if wanted.problem_type == "regression":
            return head.outputs == wanted.outputs
    if objective.labels is not None:
        return objective.labels == theirs
    places = {str(i) for i in range(len(theirs))}  # a whole number may be a label's place
    return set(wanted.labels) <= {*theirs, *places}


def with_new_head(
    model: Model, given: Model | str | Path, objective: LabelObjective, rows: Sequence[Any], seed: int
) -> Model:
    """The model with a head drawn for these rows, of the settings that are usual in its format.

    given: as the caller named it; what its files have of such a head beside the last map, a pooler, is taken.
    """
    kind = objective.heads[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(given, Model):
            return _drawn(model, _head(model, objective, rows, _usual(model, kind)))
        new = load(given, head=_head(model, objective, rows, usual_head(given, kind)), dtype="float32")
        if isinstance(model.architecture.head, kind):  # whose last map is for other labels
            initialise(new.get_submodule("head.output"), new.architecture.initializer_range)
        return new


def _head(model: Model, objective: LabelObjective, rows: Sequence[Any], usual: Head) -> Head:
    """The new head's settings; one that reads the last token knows the padding, as `transformers` has to."""
    head = objective.new_head(rows, usual)
    is_known = model.tokenizer is None or model.architecture.embeddings.padding_id is not None
    if not isinstance(head, SequenceClassification) or head.reads != "last" or head.padding_id is not None or is_known:
        return head
    padded = dataclasses.replace(head, padding_id=model.tokenizer.pad_id)
    fits_format = get_family(model.family).expresses(dataclasses.replace(model.architecture, head=padded))
    return padded if fits_format else head


def _usual(model: Model, kind: type[Head]) -> Head:
    """The head of this kind as the format of a model in memory has it."""
    bare = dataclasses.replace(model.architecture, head=None)
    family = family_for(bare, model.family)
    return family.usual_head({**family.write(bare), "model_type": family.model_type}, kind)


def _drawn(model: Model, head: Head) -> Model:
    architecture = dataclasses.replace(model.architecture, head=head)
    module = head.build(architecture)
    assert module is not None
    initialise(module, architecture.initializer_range)
    weights = {f"head.{name}": one.detach() for name, one in module.state_dict().items()}
    return rebuild(model, architecture, weights, source=str)
