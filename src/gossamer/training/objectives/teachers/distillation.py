"""What a teacher says, beside the task: DistilBERT's triple loss, and matched layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gossamer.errors import InputError
from gossamer.models import Model, Output
from gossamer.models.checks import require, require_positive
from gossamer.models.evaluation import evaluating, without_head
from gossamer.models.heads import CausalLM, Head, MaskedLM, SequenceClassification, TokenClassification
from gossamer.models.next_token import next_tokens
from gossamer.text import Tokenizer
from gossamer.training.objectives.base import (
    IGNORED,
    Batch,
    BatchSource,
    Direction,
    Objective,
    RunData,
    learnt,
    unwrapped,
)
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
from gossamer.training.objectives.teachers.soft_targets import (
    TopTargets,
    cosine_distance,
    soft_target_loss,
    vocabulary_losses,
)
from gossamer.training.objectives.teachers.teacher import Teacher, check_teacher, find_teacher, teacher_of
from gossamer.training.objectives.teachers.teacher_cache import TeacherCache, open_cache
from gossamer.training.objectives.teachers.teacher_outputs import ScoreReader, cached_targets
from gossamer.training.objectives.texts.masking import MaskingObjective

__all__ = ["DistillationObjective"]

_OF_THE_TASK = ("heads", "measures", "series", "writes", "without_head")


@dataclass(frozen=True, kw_only=True)
class DistillationObjective(Objective, kind="distillation"):
    """DistilBERT's triple loss (Sanh et al. 2019, arXiv 1910.01108, section 3) beside any `task` with scores.

    `soft_weight` times the divergence from the teacher's soft targets at a `temperature` (`soft_target_loss`), over
    what is labelled: texts, tokens, masked or next tokens; `task_weight` times the task's own loss; `cosine_weight`
    times the mean of 1 - cos between both models' last states over real tokens; and the `matches` of layers. A weight
    of 0 switches a term off, with its work. The weights are those of DistilBERT's released training, 5, 2 and 1. Where
    a step is cut into parts (`batch.accumulation`), means over all tokens, too, count by a part's share of the labels.

    teacher: a checkpoint, or None where `gossamer.distill` gives the model. It is neither trained nor saved, and a run
    goes on with the very same one alone. Held out is read as the task reads it: without the teacher. cache: a folder,
    or `TeacherCache`: scores, and last states where the cosine counts, are written there before the training, and the
    teacher is not run in it.
    """

    is_reckoned: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    kind: Literal["distillation"] = "distillation"
    task: Objective
    teacher: str | None = None
    temperature: float = 2.0
    soft_weight: float = 5.0
    task_weight: float = 2.0
    cosine_weight: float = 1.0
    matches: tuple[Match, ...] = ()
    cache: TeacherCache | str | None = None

    def __post_init__(self) -> None:
        require(are_matches(self.matches), "matches", self.matches, "a list of Match")
        self._check_cache()
        require_positive(self, "temperature")
        require_positive(self, "soft_weight", "task_weight", "cosine_weight", zero=True)
        kind = self.task.kind
        learns = set(self.task.heads) & set(_SCORING)
        require(bool(learns), "task.kind", kind, "causal-lm, masked-lm, classification or tagging")
        told = self.soft_weight or self.cosine_weight or any(one.weight for one in self.matches)
        require(bool(told), "soft_weight", self.soft_weight, "above 0, or another term that reads the teacher")
        weights = getattr(self.task, "class_weights", None)
        require(
            weights is None, "task.class_weights", weights, "left out: what a teacher says is not weighed by classes"
        )
        for name in _OF_THE_TASK:
            object.__setattr__(self, name, getattr(self.task, name))

    def _check_cache(self) -> None:
        object.__setattr__(self, "cache", TeacherCache.of(self.cache))
        if self.cache is None:
            return
        require_no_cache(self.matches, self.cache)
        masks = isinstance(self.task, MaskingObjective)
        allowed = f"left out: {self.task.kind} draws other masks at every step, so the teacher reads no row twice"
        require(not masks, "cache", cast(TeacherCache, self.cache).folder, allowed)

    @property
    def of_data(self) -> Objective:
        return self.task.of_data

    @property
    def columns(self) -> tuple[str, ...]:
        return self.task.columns

    def new_head(self, rows: Sequence[Any] = (), usual: Head | None = None) -> Head:
        return self.task.new_head(rows, usual)

    def own_tokenizer(self) -> Tokenizer:
        return self.task.own_tokenizer()

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        self.task.check_tokenizer(tokenizer)

    def remarks(self, batches: BatchSource) -> Iterator[str]:
        return self.task.remarks(batches)

    def before_step(self, model: Model, step: int) -> None:
        self.task.before_step(model, step)

    def attach(self, model: Model, seed: int, processes: int) -> None:
        given = find_teacher(model, self.teacher)
        head = model.architecture.head
        if not isinstance(head, _SCORING):
            raise InputError(f"the student has the head {head.kind if head else None!r}, which has no soft targets")
        check_teacher(given.model, model, scores=self.soft_weight > 0, cosine=self.cosine_weight > 0)
        check_matches(self.matches, given.model.architecture, model.architecture)
        give_projections(self.matches, given.model.architecture, model, seed)
        if isinstance(self.cache, TeacherCache):
            self.cache.check()
            self._reader(given)
        given.give_to(model)

    def _reader(self, teacher: Teacher) -> ScoreReader:
        return ScoreReader(
            teacher, cast(TeacherCache, self.cache), self.temperature,
            scores=self.soft_weight > 0, states=self.cosine_weight > 0,
        )  # fmt: skip

    def begin(self, model: Model, run: RunData) -> None:
        if isinstance(self.cache, TeacherCache):
            teacher = cast(Teacher, teacher_of(model))
            teacher.cached = open_cache(self.cache, self._reader(teacher), run, held_out=False)

    def detach(self, model: Model) -> None:
        Teacher.take_from(model)
        take_projections(model)

    def identity(self, model: Model) -> dict[str, str]:
        return {"teacher": cast(Teacher, teacher_of(model)).digest}

    @contextmanager
    def alone(self, model: Model) -> Iterator[None]:
        with without_projections(model):
            yield

    def save_beside(self, model: Model, folder: Path) -> None:
        self.task.save_beside(model, folder)

    def count_labels(self, model: Model, batch: Batch) -> int:
        return self.task.count_labels(model, batch)

    def any_labels(self, batch: Batch) -> Tensor:
        return self.task.any_labels(batch)

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, float]]:
        return self.task.measure(model, batch)

    def measure_examples(
        self, model: nn.Module, batch: Batch, examples: Sequence[Any]
    ) -> tuple[Float[Tensor, ""], dict[str, Any]]:
        return self.task.measure_examples(model, batch, examples)

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        return self.task.directions(model)

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, float]) -> dict[str, float | None]:
        return self.task.scores(model, loss, labels, sums)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        student = unwrapped(model)
        teacher = cast(Teacher, teacher_of(student))
        with capture_matched(self.matches, student) as watched:
            if isinstance(student.architecture.head, CausalLM | MaskedLM):
                out, theirs, total = self._of_vocabulary(model, student, teacher, batch)
            else:
                out, theirs, total = self._of_classes(model, teacher, batch)
        is_real = real_tokens(batch)
        if self.cosine_weight:
            total = total + self.cosine_weight * cosine_distance(
                cast(Tensor, out.last_hidden_state), cast(Tensor, theirs.last_hidden_state), is_real
            )
        return total + matched_loss(self.matches, student, out, theirs, is_real, watched)

    def _of_classes(self, model: nn.Module, teacher: Teacher, batch: Batch) -> tuple[Output, Output, Tensor]:
        """What both models give, and the first two terms, over labelled texts or tokens."""
        inputs = {name: one for name, one in batch.items() if name != "labels"}
        out = read_matched(model, batch if self.task_weight else inputs, self.matches)
        theirs = self._told(teacher, inputs)
        logits = cast(Tensor, out.logits)
        total = self.task_weight * cast(Tensor, out.loss) if self.task_weight else logits.sum() * 0.0
        if self.soft_weight:
            total = total + self.soft_weight * self._soft(unwrapped(model), logits, theirs.logits, batch["labels"])
        return out, theirs, total

    def _soft(self, student: Model, ours: Tensor, theirs: Tensor | None, labels: Tensor) -> Tensor:
        """The mean divergence of classes; of labels that may hold together, of each one's two outcomes."""
        head, theirs = student.architecture.head, cast(Tensor, theirs)
        if isinstance(head, SequenceClassification):
            problem = head.problem(labels)
            there = learnt(labels).reshape(len(labels), -1).all(dim=1)
            ours, theirs = ours[there], theirs[there]
            if problem == "regression":
                return (ours - theirs).square().mean() if len(ours) else ours.sum()
            if problem == "multi_label_classification":
                ours, theirs = (torch.stack([one, torch.zeros_like(one)], -1).flatten(0, 1) for one in (ours, theirs))
        else:
            there = labels != IGNORED
            ours, theirs = ours[there], theirs[there]
        return soft_target_loss(ours, theirs, self.temperature).sum() / max(len(ours), 1)

    def _of_vocabulary(
        self, model: nn.Module, student: Model, teacher: Teacher, batch: Batch
    ) -> tuple[Output, Output, Tensor]:
        """The same over masked or next tokens, scored in chunks."""
        inputs = {name: one for name, one in batch.items() if name != "labels"}
        wanted = batch["labels"]
        if isinstance(student.architecture.head, CausalLM):
            wanted = next_tokens(wanted, batch.get("segments"), student.architecture.prefix)
        scores = self.soft_weight or self.task_weight
        used = list(cast(nn.Module, student.head).parameters()) if scores else []
        with _headless(student):
            out = read_matched(model, inputs, self.matches, used)
        chosen = wanted != IGNORED
        theirs, of_teacher = self._told_of_vocabulary(teacher, inputs, chosen)
        if not (self.soft_weight or self.task_weight):
            return out, theirs, cast(Tensor, out.last_hidden_state).sum() * 0.0
        hard, soft = vocabulary_losses(
            (cast(Tensor, out.last_hidden_state)[chosen], student.scores), of_teacher, wanted[chosen], self.temperature,
            vocabulary=student.architecture.embeddings.vocabulary_size,
        )  # fmt: skip
        return out, theirs, self.task_weight * hard + self.soft_weight * soft

    def _told(self, teacher: Teacher, inputs: Mapping[str, Tensor]) -> Output:
        if teacher.cached is not None:
            told = teacher.cached.of(inputs)
            return Output(logits=told.get("logits"), last_hidden_state=told.get("states"))
        return self._ask(teacher.model_on(inputs["input_ids"].device), inputs)

    def _ask(self, model: Model, inputs: Mapping[str, Tensor]) -> Output:
        with torch.no_grad(), evaluating(model):
            return cast(Output, model(**inputs, output_hidden_states=reads_states(self.matches)))

    def _told_of_vocabulary(
        self, teacher: Teacher, inputs: Mapping[str, Tensor], chosen: Bool[Tensor, "batch length"]
    ) -> tuple[Output, tuple[Tensor | TopTargets, Callable[[Any], Tensor | TopTargets]] | None]:
        """What the teacher gives, and its soft targets for the chosen tokens, where they count."""
        if teacher.cached is not None:
            told = teacher.cached.of(inputs)
            targets = cached_targets(told, chosen) if self.soft_weight else None
            return Output(last_hidden_state=told.get("states")), targets
        model = teacher.model_on(inputs["input_ids"].device)
        theirs = self._ask(without_head(model), inputs)
        states = cast(Tensor, theirs.last_hidden_state)
        return theirs, (states[chosen], model.scores) if self.soft_weight else None


_SCORING = (CausalLM, MaskedLM, SequenceClassification, TokenClassification)
"""The heads that have soft targets here."""


@contextmanager
def _headless(model: Model) -> Iterator[None]:
    """The model itself as its body alone: what wraps it (DDP) goes on calling it, so no copy of `without_head` will do.

    It scores no token: those that are wanted are scored afterwards.
    """
    architecture, head = model.architecture, model._modules["head"]
    model.architecture, model._modules["head"] = replace(architecture, head=None), None
    try:
        yield
    finally:
        model.architecture, model._modules["head"] = architecture, head
