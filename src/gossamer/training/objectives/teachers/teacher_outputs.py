"""What of a teacher's outputs is kept in a cache, and how it is read of the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models import Model, Output
from gossamer.models.checks import require
from gossamer.models.evaluation import evaluating, without_head
from gossamer.models.heads import CausalLM, SentenceEmbedding, SequenceClassification, TokenClassification
from gossamer.text.encoding import fingerprint
from gossamer.training.objectives.base import Batch
from gossamer.training.objectives.teachers import soft_targets
from gossamer.training.objectives.teachers.output_shards import Column
from gossamer.training.objectives.teachers.soft_targets import TopTargets, top_targets
from gossamer.training.objectives.teachers.teacher import Teacher
from gossamer.training.objectives.teachers.teacher_cache import TeacherCache

__all__ = ["ScoreReader", "VectorReader", "cached_targets"]

TOP_K = 32
"""Scores of a vocabulary that are kept unless something else is asked for."""


class ScoreReader:
    """Scores of classes or of a vocabulary, and the last states, of a teacher that `DistillationObjective` asks.

    Of classes all scores are kept; of a vocabulary all, or the `top_k` highest of each token with their numbers and
    what all others come to at the temperature.
    """

    def __init__(self, teacher: Teacher, settings: TeacherCache, temperature: float, *, scores: bool, states: bool):
        self._teacher, self._temperature, self._scores, self._states = teacher, temperature, scores, states
        head = teacher.model.architecture.head
        self._top = self._top_of(head, settings) if scores else None
        held = settings.precision
        columns = []
        if self._top is not None:
            columns += [
                Column(name="logits", width=self._top, of_tokens=True, dtype=held),
                Column(name="classes", width=self._top, of_tokens=True, dtype="int32"),
                Column(name="rest", width=1, of_tokens=True, dtype="float32"),
            ]
        elif scores:
            of_tokens = not isinstance(head, SequenceClassification)
            columns.append(Column(name="logits", width=_outputs(teacher.model), of_tokens=of_tokens, dtype=held))
        if states:
            width = teacher.model.architecture.output_size
            columns.append(Column(name="states", width=width, of_tokens=True, dtype=held))
        self.columns = tuple(columns)
        self.fingerprint: Mapping[str, Any] = {
            **_fingerprint(teacher, self.columns),
            # Of all scores the targets are made at any temperature.
            "temperature": None if self._top is None else float(temperature),
        }

    def _top_of(self, head: object, settings: TeacherCache) -> int | None:
        """How many scores of a vocabulary are kept; None where all are."""
        if not isinstance(head, CausalLM):
            require(
                settings.top_k in (None, "all"), "objective.cache.top_k", settings.top_k,
                "left out: of a head of classes all scores are kept",
            )  # fmt: skip
            return None
        top: int | Literal["all"] = TOP_K if settings.top_k is None else settings.top_k
        return None if top == "all" or top >= _outputs(self._teacher.model) else top

    def read(self, inputs: Batch, device: torch.device) -> dict[str, Tensor]:
        model = self._teacher.model_on(device)
        is_vocabulary = isinstance(model.architecture.head, CausalLM)
        with evaluating(model):
            out: Output = (without_head(model) if is_vocabulary else model)(**inputs)
            states = cast(Tensor, out.last_hidden_state)
            told = {"states": states}
            if self._scores:
                told |= self._of_vocabulary(model, states) if is_vocabulary else {"logits": cast(Tensor, out.logits)}
        return told

    def _of_vocabulary(self, model: Model, states: Tensor) -> dict[str, Tensor]:
        """Scores of some tokens at once, so that [tokens, vocabulary] is not there whole where few of them are kept."""
        size = max(1, soft_targets.CHUNK_SCORES // _outputs(model))
        parts = [self._kept(model.scores(some)) for some in states.flatten(0, 1).split(size)]
        shape = states.shape[:2]
        return {name: torch.cat([one[name] for one in parts]).unflatten(0, shape) for name in parts[0]}

    def _kept(self, scores: Tensor) -> dict[str, Tensor]:
        if self._top is None:
            return {"logits": scores}
        top = top_targets(scores, self._top, self._temperature)
        return {"logits": top.logits, "classes": top.classes.int(), "rest": top.rest[:, None]}


class VectorReader:
    """The vector of a text."""

    def __init__(self, teacher: Teacher, settings: TeacherCache) -> None:
        if settings.top_k is not None:
            raise InputError(f"objective.cache.top_k is {settings.top_k!r}; a vector is kept whole: leave it out")
        self._teacher = teacher
        architecture = teacher.model.architecture
        width = cast(SentenceEmbedding, architecture.head).vector_size(architecture.output_size)
        self.columns = (Column(name="vector", width=width, of_tokens=False, dtype=settings.precision),)
        self.fingerprint: Mapping[str, Any] = _fingerprint(teacher, self.columns)

    def read(self, inputs: Batch, device: torch.device) -> dict[str, Tensor]:
        model = self._teacher.model_on(device)
        with evaluating(model):
            return {"vector": cast(Tensor, model(**inputs).pooled)}


def cached_targets(
    told: Mapping[str, Tensor], tokens: Tensor
) -> tuple[Tensor | TopTargets, Callable[[Any], Tensor | TopTargets]]:
    """Soft targets of a vocabulary for the tokens that are chosen, as `vocabulary_losses` takes them."""
    if "classes" not in told:
        return told["logits"][tokens], lambda known: known
    top = TopTargets(logits=told["logits"], classes=told["classes"], rest=told["rest"][..., 0])
    return top[tokens], lambda known: known


def _outputs(model: Model) -> int:
    """Scores of a text or of a token."""
    head = model.architecture.head
    if isinstance(head, SequenceClassification):
        return head.outputs
    if isinstance(head, TokenClassification):
        return len(head.labels)
    return model.architecture.embeddings.vocabulary_size


def _fingerprint(teacher: Teacher, columns: tuple[Column, ...]) -> dict[str, Any]:
    tokenizer = teacher.model.tokenizer
    held = {one.name: f"{one.width} x {one.dtype}" for one in columns}
    return {
        "teacher": teacher.digest,
        "tokenizer": None if tokenizer is None else fingerprint(tokenizer),
        **{name: held.get(name) for name in ("logits", "states", "vector")},
    }
