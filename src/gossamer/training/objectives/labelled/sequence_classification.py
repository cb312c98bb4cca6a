"""Labels of whole texts, several of them at once, or numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, cast

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import InputError, quote
from gossamer.metrics import f1_score, matthews, pearson, spearman
from gossamer.metrics.labels import f1
from gossamer.models import Model
from gossamer.models.checks import is_finite, require_choice
from gossamer.models.heads import Head, ProblemType, SequenceClassification
from gossamer.text import Document, Tokenizer
from gossamer.training.objectives.base import Batch, Direction, learnt, unwrapped
from gossamer.training.objectives.labelled.class_weights import WeightedLabels
from gossamer.training.objectives.labelled.labels import (
    Example,
    LabelledRow,
    describe_field,
    from_cell,
    is_label,
    is_text,
    label_number,
    number_from_cell,
    sorted_labels,
)

__all__ = ["ClassificationObjective", "read_tokens"]


@dataclass(frozen=True, kw_only=True)
class ClassificationObjective(WeightedLabels, kind="classification"):
    """Labels of texts or of pairs of texts, the head `SequenceClassification`.

    problem: told by the labels unless given. A name or a whole number is one label of several
    (single_label_classification), a list of names any number of them at once (multi_label_classification), another
    number, or a list of numbers, is to be predicted as it is (regression). label_field, pair_field: where a row has its
    label, and its second text if it has one.
    """

    heads: ClassVar[tuple[type[Head], ...]] = (SequenceClassification,)
    measures: ClassVar[tuple[str, ...]] = ("correct", "right", "found", "wanted", "distance", "numbers")
    series: ClassVar[tuple[str, ...]] = ("predicted", "labelled")

    kind: Literal["classification"] = "classification"
    problem: ProblemType | None = None
    label_field: str = "label"
    pair_field: str = "text_pair"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.problem is not None:
            require_choice(self, ProblemType, "problem")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.label_field,)

    def new_head(self, rows: Sequence[LabelledRow] = (), usual: Head | None = None) -> SequenceClassification:
        problem = self.problem_of(rows)
        if problem == "regression":
            outputs = max((len(_as_list(one.label)) for one in rows), default=1)
            labels = self.labels or tuple(f"LABEL_{i}" for i in range(outputs))
        else:
            labels = self._names(rows, usual)
        if problem == "single_label_classification":
            self._check_several(labels, "rows")
        head = cast(SequenceClassification, usual or SequenceClassification(labels=labels))
        return replace(head, labels=labels, problem_type=problem, score_activation=None)

    def read_row(self, document: Document, text_field: str) -> LabelledRow:
        fields, where = document.fields, document.name
        text, pair, label = fields.get(text_field), fields.get(self.pair_field), from_cell(fields.get(self.label_field))
        for name, value in ((text_field, text), *([] if pair is None else [(self.pair_field, pair)])):
            if not is_text(value) or not value.strip():
                raise InputError(
                    f"{where}: the field {name!r} {describe_field(fields, name)}; it must be a text (data.field)"
                )
        if not (is_label(label) or is_finite(label) or (isinstance(label, list) and _is_uniform(label))):
            said = describe_field(fields, self.label_field)
            raise InputError(
                f"{where}: the field {self.label_field!r} {said}; it must be a name, a number, or a list of names or "
                "of numbers (in a table as JSON)"
            )
        return LabelledRow(name=where, text=cast(str, text), pair=pair, label=label)

    def settle_head(self, head: Head, rows: Sequence[LabelledRow]) -> SequenceClassification:
        """With its kind of problem, which decides the loss, where it says none."""
        settings = cast(SequenceClassification, super().settle_head(head, rows))
        theirs = settings.problem_type
        if self.problem is not None and theirs not in (None, self.problem):
            raise InputError(
                f"objective.problem is {quote(self.problem)}, but the model's head is for {theirs}: leave it out, or "
                "draw a head (model.new_head: true)"
            )
        return replace(settings, problem_type=theirs or self.problem_of(rows, settings.outputs))

    def encode(
        self, rows: Sequence[LabelledRow], tokenizer: Tokenizer, length: int, head: Head, *, control_tokens: bool
    ) -> list[Example]:
        settings = cast(SequenceClassification, head)
        assert settings.problem_type is not None
        targets = _Targets(settings, settings.problem_type)
        read = ((row, read_tokens(row, tokenizer, length, control_tokens)) for row in rows)
        return [
            Example(name=row.name, ids=ids, types=types, labels=targets(row), cut=cut)
            for row, (ids, types, cut) in read
        ]

    def count_labels(self, model: Model, batch: Batch) -> int:
        return int(learnt(batch["labels"]).reshape(len(batch["labels"]), -1).all(dim=1).sum())

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, Any]]:
        """The loss; texts whose label is right, labels right, found and wanted, or the distance of numbers.

        And of each text what was predicted and what it is labelled: a class, numbers, or 0 and 1 for each label.
        """
        out = self.read(model, batch)
        there = learnt(batch["labels"]).reshape(len(out.logits), -1).all(dim=1)
        labels, logits = batch["labels"][there], out.logits[there]
        sums: dict[str, Any] = dict.fromkeys(self.measures, 0.0)
        if not labels.is_floating_point():
            predicted = logits.argmax(dim=-1)
            series = {"predicted": predicted.tolist(), "labelled": labels.tolist()}
            return out.loss, sums | series | {"correct": float((predicted == labels).sum())}
        problem = cast(SequenceClassification, unwrapped(model).architecture.head).problem(batch["labels"])
        if problem == "regression":
            distance = (logits - labels.view_as(logits)).abs().sum()
            series = {"predicted": logits.flatten().tolist(), "labelled": labels.flatten().tolist()}
            return out.loss, sums | series | {"distance": float(distance), "numbers": float(logits.numel())}
        found, wanted = logits > 0, labels > 0.5
        counts = {"right": found & wanted, "found": found, "wanted": wanted, "correct": (found == wanted).all(dim=-1)}
        series = {"predicted": found.long().tolist(), "labelled": wanted.long().tolist()}
        return out.loss, sums | series | {name: float(one.sum()) for name, one in counts.items()}

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, Any]) -> dict[str, float | None]:
        """The mean distance of numbers, of one a text its correlations too; else the share of texts that are right.

        Beside that of one label a text the mean F1 of all labels and Matthews' coefficient, where there are two or more
        to be told apart, by the model too; of several the F1 of all decisions, and the mean of the labels'. None is
        what cannot be told of these texts.
        """
        predicted, labelled = sums["predicted"], sums["labelled"]
        if sums["numbers"]:
            distance = {"mean_absolute_error": sums["distance"] / sums["numbers"]}
            is_one = cast(SequenceClassification, model.architecture.head).outputs == 1
            told = is_one and all(map(math.isfinite, predicted))
            both = {"pearson": pearson, "spearman": spearman} if is_one else {}
            return distance | {
                name: correlate(predicted, labelled) if told else None for name, correlate in both.items()
            }
        accuracy = {"accuracy": sums["correct"] / labels if labels else None}
        if sums["found"] or sums["wanted"]:
            accuracy["f1"] = f1(sums["right"], sums["found"], sums["wanted"])
        several = len(set(map(str, labelled))) > 1
        accuracy["f1_macro"] = f1_score(predicted, labelled, "macro") if several else None
        if cast(SequenceClassification, model.architecture.head).problem_type == "multi_label_classification":
            return accuracy
        return accuracy | {"matthews": matthews(predicted, labelled) if several else None}

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        names: dict[str, tuple[str, ...]] = {
            "multi_label_classification": ("accuracy", "f1", "f1_macro"),
            "single_label_classification": ("accuracy", "f1_macro", "matthews"),
            "regression": ("mean_absolute_error", "pearson", "spearman"),
        }
        head = None if model is None else cast(SequenceClassification, model.architecture.head)
        problem = None if head is None else head.problem_type
        told = [*dict.fromkeys(name for some in names.values() for name in some)] if problem is None else names[problem]
        several_numbers = problem == "regression" and head is not None and head.outputs > 1
        told = told[:1] if several_numbers else told
        return {name: "lower" if name == "mean_absolute_error" else "higher" for name in told}

    def label_names(self, rows: Sequence[LabelledRow]) -> tuple[str, ...]:
        return sorted_labels(label for one in rows for label in _as_list(one.label))

    def problem_of(self, rows: Sequence[LabelledRow], outputs: int | None = None) -> ProblemType:
        """What the labels make of it; of a head with one output that says nothing else, a regression."""
        if self.problem is not None:
            return self.problem
        kinds = {_problem_of(one.label): one for one in rows}
        if kinds.keys() == {"single_label_classification", "regression"}:  # 1 beside 2.5
            names = [one.name for one in rows if isinstance(one.label, str)]
            kinds = kinds if names else {"regression": rows[0]}
        if len(kinds) > 1:
            (first, one), (second, other), *_ = kinds.items()
            raise InputError(
                f"{one.name} has a label for {first}, {other.name} one for {second}: mend one of them, or name "
                "objective.problem"
            )
        return "regression" if outputs == 1 else next(iter(kinds), "single_label_classification")


@dataclass(frozen=True)
class _Targets:
    """A row's labels as numbers: the label's place, one number a label, or the numbers themselves."""

    head: SequenceClassification
    problem: ProblemType

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.head.labels)}

    def __call__(self, row: LabelledRow) -> np.ndarray:
        several = _as_list(row.label)
        if self.problem == "regression":
            return self._numbers(row, several)
        if self.problem == "single_label_classification":
            if len(several) != 1 or not is_label(several[0]):
                raise InputError(f"{row.name}: its label is {quote(row.label)}; it must be one label")
            return np.array(label_number(several[0], self._places, row.name), dtype=np.int64)
        wanted = np.zeros(len(self._places), dtype=np.float32)
        for one in several:
            if not is_label(one):
                raise InputError(f"{row.name}: its label is {quote(row.label)}; it must be a list of labels")
            wanted[label_number(one, self._places, row.name)] = 1
        return wanted

    def _numbers(self, row: LabelledRow, several: list[Any]) -> np.ndarray:
        numbers = list(map(number_from_cell, several))
        if len(numbers) != self.head.outputs or not all(map(_is_float32, numbers)):
            count = "a number" if self.head.outputs == 1 else f"{self.head.outputs} numbers"
            allowed = f"{count} that float32 holds, to be predicted"
            raise InputError(f"{row.name}: its label is {quote(row.label)}; it must be {allowed}")
        return np.array(numbers, dtype=np.float32)


def _is_float32(value: object) -> bool:
    return is_finite(value) and abs(value) <= float(np.finfo(np.float32).max)  # type: ignore[arg-type]


def _problem_of(label: Any) -> ProblemType:
    if isinstance(label, list):
        return "regression" if label and is_finite(label[0]) else "multi_label_classification"
    return "single_label_classification" if is_label(label) else "regression"


def _as_list(label: Any) -> list[Any]:
    return label if isinstance(label, list) else [label]


def _is_uniform(label: list[Any]) -> bool:
    return all(is_text(one) and one for one in label) or all(map(is_finite, label))


def read_tokens(
    row: LabelledRow, tokenizer: Tokenizer, length: int, control_tokens: bool
) -> tuple[np.ndarray, np.ndarray, bool]:
    """A row's ids and types, and whether it was cut, of a pair the longer text first."""
    batch = tokenizer(row.text, row.pair, max_length=length, control_tokens=control_tokens)
    ids, types = batch["input_ids"][0].numpy(), batch["token_type_ids"][0].numpy()
    if len(ids) < length:
        return ids, types, False
    texts = [one for one in (row.text, row.pair) if one is not None]
    whole = sum(len(tokenizer.encode_plain(one, control_tokens)[0]) for one in texts)
    return ids, types, whole + tokenizer.special_tokens_count(pair=row.pair is not None) > length
