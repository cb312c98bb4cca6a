"""A head for labelled rows: the model's own where it fits them, else one that is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch

from gossamer.checkpoints.checkpoint import open_checkpoint
from gossamer.checkpoints.new_heads import load_with_new_head, usual_head
from gossamer.families import family_for, get_family
from gossamer.models.architecture import Architecture
from gossamer.models.heads import Head, QuestionAnswering, SequenceClassification
from gossamer.models.initial import initialise
from gossamer.models.model import Model
from gossamer.surgery.rebuild import rebuild
from gossamer.text import Tokenizer
from gossamer.training.objectives import ClassificationObjective, LabelObjective, RowObjective

__all__ = ["fits", "with_new_head"]


def fits(objective: RowObjective, head: Head | None, rows: Sequence[Any]) -> TypeGuard[Head]:
    """Whether a model's head is for these rows: their kind of labels, and all of them among its own."""
    if not isinstance(head, objective.heads):
        return False
    if isinstance(head, QuestionAnswering) or not isinstance(objective, LabelObjective):
        return True
    theirs: tuple[str, ...] = head.labels  # type: ignore[attr-defined]
    if isinstance(head, SequenceClassification) and isinstance(objective, ClassificationObjective):
        problem = objective.problem_of(rows)
        if head.problem_type not in (None, problem):
            return False
        if problem == "regression":
            return head.outputs == objective.new_head(rows, head).outputs
    if objective.labels is not None:
        return objective.labels == theirs
    places = {str(i) for i in range(len(theirs))}  # a whole number may be a label's place
    return set(objective.label_names(rows)) <= {*theirs, *places}


def with_new_head(given: Model | str | Path, objective: RowObjective, rows: Sequence[Any], seed: int) -> Model:
    """The model, in float32, with a head drawn for these rows, of the settings that are usual in its format.

    given: a model, of which a copy is made, or what `gossamer.load` takes; what its files have of such a head beside
    the last map, a pooler, is taken.
    """
    kind = objective.heads[0]
    if isinstance(given, Model):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = objective.new_head(rows, _usual(given, kind))
            return _drawn(given, _padded(head, given.architecture, given.family, given.tokenizer)).float()
    head, files = objective.new_head(rows, usual_head(given, kind)), open_checkpoint(given, None)
    if isinstance(head, SequenceClassification) and head.reads == "last":
        head = _padded(head, files.architecture, files.family.model_type, files.tokenizer())
    return load_with_new_head(given, head, seed)


def _padded(head: Head, architecture: Architecture, family: str, tokenizer: Tokenizer | None) -> Head:
    """The head's settings; one that reads the last token knows the padding, as `transformers` has to."""
    is_known = tokenizer is None or architecture.embeddings.padding_id is not None
    if not isinstance(head, SequenceClassification) or head.reads != "last" or head.padding_id is not None or is_known:
        return head
    assert tokenizer is not None
    padded = dataclasses.replace(head, padding_id=tokenizer.pad_id)
    fits_format = get_family(family).expresses(dataclasses.replace(architecture, head=padded))
    return padded if fits_format else head


def _usual(model: Model, kind: type[Head]) -> Head:
    """The head of this kind as the format of a model in memory has it."""
    bare = dataclasses.replace(model.architecture, head=None)
    family = family_for(bare, model.family)
    return family.usual_head({**family.write(bare), "model_type": family.model_type}, kind)


def _drawn(model: Model, head: Head) -> Model:
    architecture = dataclasses.replace(model.architecture, head=head)
    module = head.build(architecture)
    weights = {}
    if module is not None:
        initialise(module, architecture.initializer_range)
        weights = {f"head.{name}": one.detach() for name, one in module.state_dict().items()}
    return rebuild(model, architecture, weights, source=str)
