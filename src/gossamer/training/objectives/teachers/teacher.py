"""A teacher beside its student: held out of the student's weights, known by its digest, checked against it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.checkpoints import load
from gossamer.errors import InputError
from gossamer.models import Model
from gossamer.models.checks import require
from gossamer.text.encoding import fingerprint
from gossamer.training.objectives.teachers.teacher_cache import CachedOutputs

__all__ = ["Teacher", "check_teacher", "digest_of_model", "digest_of_weights", "find_teacher", "teacher_of"]

_PLACE = "distillation_teacher"


@dataclass(kw_only=True)
class Teacher:
    """A model that is learnt from, the SHA-256 of its description and weights, and its outputs where they are kept."""

    model: Model
    digest: str
    cached: CachedOutputs | None = None

    @classmethod
    def of(cls, model: Model) -> Teacher:
        return cls(model=model, digest=digest_of_model(model))

    def give_to(self, student: Model) -> None:
        """Put it beside the student: no module of it, so neither optimizer nor checkpoints nor DDP see it."""
        student.__dict__[_PLACE] = self

    @staticmethod
    def take_from(student: Model) -> None:
        student.__dict__.pop(_PLACE, None)

    def model_on(self, device: torch.device) -> Model:
        """The model on this device, a copy where it is on another one."""
        if next(self.model.parameters()).device != device:
            self.model = copy.deepcopy(self.model).to(device)
        return self.model


def teacher_of(student: Model) -> Teacher | None:
    """The teacher that was given to a student."""
    teacher: Teacher | None = student.__dict__.get(_PLACE)
    return teacher


def find_teacher(student: Model, name: str | None) -> Teacher:
    """The teacher that a student was given, or the checkpoint of this name; InputError where there is neither."""
    teacher = teacher_of(student)
    if teacher is None:
        require(name is not None, "objective.teacher", name, "a checkpoint to learn from")
        teacher = Teacher.of(load(str(name), dtype="float32"))
    return teacher


def digest_of_model(model: Model) -> str:
    """SHA-256 of what a model computes with: its weights, and its description as far as it is not the usual one.

    So fields that later versions add, with a default that says what was before, change no digest.
    """
    return digest_of_weights(model.state_dict(), json.dumps(_unusual(model.architecture), sort_keys=True))


def _unusual(value: object) -> object:
    """A description without what its defaults say, as JSON has it."""
    if isinstance(value, list | tuple):
        return [_unusual(one) for one in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    told = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    usual = {field.name: field.default for field in dataclasses.fields(value)}
    return {"": type(value).__name__} | {name: _unusual(one) for name, one in told.items() if one != usual[name]}


def digest_of_weights(weights: Mapping[str, Tensor], description: str = "") -> str:
    """SHA-256 of a description and of tensors by their names."""
    digest = hashlib.sha256(description.encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_teacher(teacher: Model, student: Model, *, scores: bool, cosine: bool) -> None:
    """InputError for a teacher that reads other tokens, scores something else, or has states of another width."""
    ours, theirs = student.architecture, teacher.architecture
    known = student.tokenizer is not None and teacher.tokenizer is not None
    same = not known or fingerprint(student.tokenizer) == fingerprint(teacher.tokenizer)
    sizes = ours.embeddings.vocabulary_size, theirs.embeddings.vocabulary_size
    if not same or sizes[0] != sizes[1]:
        how = f"{sizes[0]:,} tokens and {sizes[1]:,}" if sizes[0] != sizes[1] else "another tokenizer"
        raise InputError(
            f"teacher and student have different vocabularies ({how}); take a student with the teacher's tokenizer"
        )
    heads = [None if one.head is None else one.head.kind for one in (ours, theirs)]
    if scores and heads[0] != heads[1]:
        raise InputError(
            f"the teacher has the head {heads[1]!r} and the student {heads[0]!r}: load the teacher with the student's "
            "head, or set soft_weight to 0"
        )
    labels = [getattr(one.head, "labels", ()) for one in (ours, theirs)]
    if scores and labels[0] != labels[1]:
        raise InputError(
            f"the teacher's labels are {list(labels[1])} and the student's {list(labels[0])}; they must be the same, "
            "in the same order, or soft_weight 0"
        )
    if cosine and ours.output_size != theirs.output_size:
        raise InputError(
            f"cosine_weight compares states {theirs.output_size} and {ours.output_size} wide; set it to 0, and give a "
            "match of layers, which has a projection"
        )
