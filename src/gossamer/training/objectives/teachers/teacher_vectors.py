"""The vector that a teacher gives a text: a student of it searches the teacher's index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer.errors import InputError, quote
from gossamer.models import Model, Output
from gossamer.models.checks import require, require_choice
from gossamer.models.evaluation import evaluating
from gossamer.models.heads import Head, SentenceEmbedding
from gossamer.text import Document, Tokenizer
from gossamer.training.objectives.base import Batch, Direction, RunData, learnt, unwrapped
from gossamer.training.objectives.labelled.labels import Example, LabelledRow, LabelObjective, describe_field, is_text
from gossamer.training.objectives.labelled.sequence_classification import read_tokens
from gossamer.training.objectives.rows_read import real_tokens
from gossamer.training.objectives.teachers.matches import (
    Match,
    are_matches,
    capture_matched,
    check_matches,
    give_projections,
    matched_loss,
    read_matched,
    reads_states,
    require_no_cache,
    take_projections,
    without_projections,
)
from gossamer.training.objectives.teachers.teacher import Teacher, check_teacher, find_teacher, teacher_of
from gossamer.training.objectives.teachers.teacher_cache import TeacherCache, open_cache
from gossamer.training.objectives.teachers.teacher_outputs import VectorReader
from gossamer.training.objectives.vectors import trained_prompt

__all__ = ["TeacherVectorsObjective"]

VectorLoss = Literal["cosine", "l2"]


@dataclass(frozen=True, kw_only=True)
class TeacherVectorsObjective(LabelObjective, kind="teacher-vectors"):
    """The student's vector of a text becomes its teacher's, from texts alone (LEAF: arXiv 2509.12539).

    vector_loss: "cosine", the mean of 1 - cos, or "l2", the mean squared distance of whole vectors. Both models have
    the head `SentenceEmbedding` and vectors of one width; LEAF's linear map between widths is a `DenseLayer` of the
    student's head. `matches` of layers are added to it, for which the teacher is run; where a step is cut into parts,
    or shared by processes, their means over tokens count by a part's share of the texts.

    teacher: a checkpoint, or None where `gossamer.distill` gives the model. A row is a text, a document
    of a text file or one with a text; what it says beside that is not read. The default prompt, which both heads have
    alike, is put before each text, as the task does. Held out are told the vectors' loss and the mean cosine.
    cache: a folder, or `TeacherCache`: the vectors of all texts are written there before the training, held-out ones
    too, and the teacher is not run in it.
    """

    heads: ClassVar[tuple[type[Head], ...]] = (SentenceEmbedding,)
    measures: ClassVar[tuple[str, ...]] = ("cosines",)
    is_reckoned: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    kind: Literal["teacher-vectors"] = "teacher-vectors"
    teacher: str | None = None
    vector_loss: VectorLoss = "cosine"
    matches: tuple[Match, ...] = ()
    cache: TeacherCache | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cache", TeacherCache.of(self.cache))
        require_choice(self, VectorLoss, "vector_loss")
        require(are_matches(self.matches), "matches", self.matches, "a list of Match")
        require_no_cache(self.matches, self.cache)

    @property
    def columns(self) -> tuple[str, ...]:
        return ("text",)

    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        return usual or SentenceEmbedding()

    def read_row(self, document: Document, text_field: str) -> LabelledRow:
        text = document.fields.get(text_field) if document.fields else "".join(document.parts)
        if not is_text(text) or not text.strip():
            said = describe_field(document.fields, text_field) if document.fields else f"is {quote(text)}"
            raise InputError(f"{document.name}: the field {text_field!r} {said}; it must be a text (data.field)")
        return LabelledRow(name=document.name, text=text, label=0)

    def encode(
        self, rows: Sequence[LabelledRow], tokenizer: Tokenizer, length: int, head: Head, *, control_tokens: bool
    ) -> list[Example]:
        nothing, prompt = np.zeros((), dtype=np.int64), trained_prompt(cast(SentenceEmbedding, head))
        prompted = (replace(row, text=prompt + row.text) for row in rows)
        read = ((row, read_tokens(row, tokenizer, length, control_tokens)) for row in prompted)
        return [
            Example(name=row.name, ids=ids, types=types, labels=nothing, cut=cut) for row, (ids, types, cut) in read
        ]

    def attach(self, model: Model, seed: int, processes: int) -> None:
        given = find_teacher(model, self.teacher)
        if not isinstance(given.model.architecture.head, SentenceEmbedding):
            raise InputError("the teacher has no vectors of texts; load it with head='embed'")
        check_teacher(given.model, model, scores=False, cosine=False)
        _check_heads(given.model, model)
        check_matches(self.matches, given.model.architecture, model.architecture)
        give_projections(self.matches, given.model.architecture, model, seed)
        if isinstance(self.cache, TeacherCache):
            self.cache.check()
            VectorReader(given, self.cache)
        given.give_to(model)

    def begin(self, model: Model, run: RunData) -> None:
        if isinstance(self.cache, TeacherCache):
            teacher = cast(Teacher, teacher_of(model))
            teacher.cached = open_cache(self.cache, VectorReader(teacher, self.cache), run, held_out=True)

    def detach(self, model: Model) -> None:
        Teacher.take_from(model)
        take_projections(model)

    @contextmanager
    def alone(self, model: Model) -> Iterator[None]:
        with without_projections(model):
            yield

    def identity(self, model: Model) -> dict[str, str]:
        return {"teacher": cast(Teacher, teacher_of(model)).digest}

    def count_labels(self, model: Model, batch: Batch) -> int:
        return int(learnt(batch["labels"]).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        student, inputs = unwrapped(model), _inputs(batch)
        with capture_matched(self.matches, student) as watched:
            out = read_matched(model, inputs, self.matches)
            theirs = _told(cast(Teacher, teacher_of(student)), inputs, states=reads_states(self.matches))
        loss, _ = self._distances(out, theirs, batch["labels"])
        return loss + matched_loss(self.matches, student, out, theirs, real_tokens(batch), watched)

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, float]]:
        inputs = _inputs(batch)
        theirs = _told(cast(Teacher, teacher_of(unwrapped(model))), inputs)
        loss, cosines = self._distances(model(**inputs), theirs, batch["labels"])
        return loss, {"cosines": float(cosines.sum())}

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, float]) -> dict[str, float | None]:
        """The mean cosine of both models' vectors of a text."""
        return {"cosine": sums["cosines"] / labels if labels else None}

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        return {"cosine": "higher"}

    def _distances(
        self, ours: Output, theirs: Output, labels: Tensor
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "texts"]]:
        """The loss of the texts that count, and the cosine of each."""
        there = learnt(labels)
        told, wanted = (cast(Tensor, one.pooled)[there].float() for one in (ours, theirs))
        cosines = F.cosine_similarity(told, wanted, dim=-1)
        each = 1 - cosines if self.vector_loss == "cosine" else (told - wanted).square().sum(-1)
        return each.sum() / max(len(each), 1), cosines


def _inputs(batch: Batch) -> dict[str, Tensor]:
    return {name: one for name, one in batch.items() if name != "labels"}


def _check_heads(teacher: Model, student: Model) -> None:
    """InputError for heads whose vectors are of other widths, or of texts behind other prompts."""
    heads = [cast(SentenceEmbedding, one.architecture.head) for one in (teacher, student)]
    theirs, ours = (
        head.vector_size(one.architecture.output_size) for head, one in zip(heads, (teacher, student), strict=True)
    )
    if theirs != ours:
        raise InputError(
            f"the teacher's vectors have {theirs} numbers and the student's {ours}; take one width, or give the "
            f"student's head a map to it: dense=(DenseLayer(size={theirs}, activation='identity'),)"
        )
    prompts = trained_prompt(heads[0], "teacher"), trained_prompt(heads[1], "student")
    if prompts[0] != prompts[1]:
        raise InputError(
            f"the teacher puts the prompt {quote(prompts[0])} before each text and the student {quote(prompts[1])}; "
            "give both heads the same prompts and default_prompt_name"
        )


def _told(teacher: Teacher, inputs: Batch, *, states: bool = False) -> Output:
    """What the teacher gives, computed or from its cache."""
    if teacher.cached is not None:
        return Output(pooled=teacher.cached.of(inputs)["vector"])
    model = teacher.model_on(inputs["input_ids"].device)
    with torch.no_grad(), evaluating(model):
        return cast(Output, model(**inputs, output_hidden_states=states))
