"""What objectives share whose data are rows with labels: texts in, examples of token ids and labels out."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.models import Model
from gossamer.models.checks import require
from gossamer.models.heads import Head
from gossamer.models.heads.labels import require_labels
from gossamer.text import Document, Tokenizer
from gossamer.training.objectives.base import IGNORED, Batch, Objective, filled

__all__ = [
    "Example",
    "LabelObjective",
    "LabelledRow",
    "RowObjective",
    "collated",
    "collated_inputs",
    "from_cell",
    "is_label",
    "is_text",
    "label_name",
    "label_number",
    "number_from_cell",
    "padded",
    "sorted_labels",
]


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """A text, or a pair of texts, and what its row says of it; `name`: where it is from, as `mail.jsonl:3`."""

    name: str
    text: str
    label: Any
    pair: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A row, or a part of one, as the model reads it: ids and types int64 [length].

    labels: [length], [labels], [2] (the ends of an answer) or of one number. cut: whether the text was longer than
    the model reads.
    """

    name: str
    ids: np.ndarray
    types: np.ndarray
    labels: np.ndarray
    cut: bool

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All that is learnt from."""
        return self.ids, self.types, self.labels

    @property
    def global_tokens(self) -> int:
        """How many of the first tokens see all others and are seen by them, in a model that has such tokens."""
        return 0

    @property
    def has_token_labels(self) -> bool:
        """Whether there is a label for each token, padding's too where rows are padded."""
        return self.labels.ndim == 1 and self.labels.dtype == np.int64


@dataclass(frozen=True, kw_only=True)
class RowObjective(Objective):
    """Learns from rows with columns of their own, each one row of a batch."""

    @abstractmethod
    def read_row(self, document: Document, text_field: str) -> LabelledRow:
        """One row of the data; InputError names it and what it lacks."""

    @abstractmethod
    def encode(
        self, rows: Sequence[LabelledRow], tokenizer: Tokenizer, length: int, head: Head, *, control_tokens: bool
    ) -> list[Example]:
        """The rows in at most `length` tokens each; InputError for a label that the head does not have."""

    def prepare(self, model: Model, examples: Sequence[Example]) -> None:
        """Called before the run with the examples that are trained on."""

    @property
    def least_rows(self) -> int:
        """How many a step has to have."""
        return 1

    def check_batch(self, rows: int, tokens: int | None) -> None:
        """Raise InputError for a step of so many rows, or of rows that so many tokens hold, that will not do."""

    def settle_head(self, head: Head, rows: Sequence[LabelledRow]) -> Head:
        """The head with what these rows tell of it."""
        return head

    def collate(self, examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
        """Examples side by side, as a batch."""
        return collated(examples, pad_id)

    def any_labels(self, batch: Batch) -> Tensor:
        return filled(batch["labels"])


@dataclass(frozen=True, kw_only=True)
class LabelObjective(RowObjective):
    """Rows of texts with labels.

    labels: their names, in the order in which the model has them; those that the data have, sorted, unless given. A
    model that has such a head already has labels, and the data's must be among them.
    """

    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            require_labels(self.labels)
            twice = [name for name, count in Counter(self.labels).items() if count > 1]
            require(not twice, "labels", self.labels, "names, each of them once")

    def settle_head(self, head: Head, rows: Sequence[LabelledRow]) -> Head:
        """The head with what these rows tell of it; InputError where it has other labels than those which are named."""
        theirs: tuple[str, ...] = getattr(head, "labels", ())
        if self.labels is not None and self.labels != theirs:
            raise InputError(
                f"objective.labels is {quote(self.labels)}, but the model's head has {quote(theirs)}: leave them out, "
                "or draw a head (model.new_head: true)"
            )
        return head

    def label_names(self, rows: Sequence[LabelledRow]) -> tuple[str, ...]:
        """The names of all labels that these rows have, sorted."""
        return ()

    def _names(self, rows: Sequence[LabelledRow], usual: Head | None) -> tuple[str, ...]:
        """The labels' names: those that are given, or all of the rows; InputError where there are none.

        Where a checkpoint has the very labels, they stay in its order.
        """
        names = self.labels or self.label_names(rows)
        if not names:
            raise InputError("objective.labels is missing, and no data are read here that have labels: name all labels")
        theirs: tuple[str, ...] = getattr(usual, "labels", ())
        return theirs if not self.labels and sorted(theirs) == sorted(names) else names

    def _check_several(self, labels: tuple[str, ...], what: str) -> None:
        if len(labels) == 1:
            raise InputError(f"all {what} have the label {quote(labels[0])}; there is nothing to tell apart")


def collated(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Rows of one text each, or of a pair that is read as one, padded on the right."""
    batch = collated_inputs(examples, pad_id)
    labels = [one.labels for one in examples]
    of_tokens = examples[0].has_token_labels
    width = batch["input_ids"].shape[1]
    batch["labels"] = padded(labels, width, IGNORED) if of_tokens else torch.from_numpy(np.stack(labels))
    return batch


def collated_inputs(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """What a model reads of these rows, padded on the right, without labels."""
    width = max(len(one.ids) for one in examples)
    batch = {"input_ids": padded([one.ids for one in examples], width, pad_id)}
    if any(one.types.any() for one in examples):
        batch["token_type_ids"] = padded([one.types for one in examples], width, 0)
    if any(len(one.ids) < width for one in examples):
        batch["attention_mask"] = padded([np.ones_like(one.ids) for one in examples], width, 0)
    if any(one.global_tokens for one in examples):
        batch["global_mask"] = padded([np.arange(len(one.ids)) < one.global_tokens for one in examples], width, 0)
    return batch


def padded(rows: Sequence[np.ndarray], width: int, fill: int) -> Tensor:
    """Vectors as the rows [rows, width] of a tensor, filled up on the right."""
    return torch.from_numpy(np.stack([np.pad(one, (0, width - len(one)), constant_values=fill) for one in rows]))


def sorted_labels(found: Iterable[str | int]) -> tuple[str, ...]:
    """The names of labels, numbers before texts, each once: 1 and "1" are one label."""
    ordered = sorted(set(found), key=lambda one: (isinstance(one, str), one))
    return tuple(dict.fromkeys(map(label_name, ordered)))


def label_name(label: str | int) -> str:
    """How a label is called: a whole number by its digits."""
    return str(label)


def label_number(label: str | int, numbers: Mapping[str, int], where: str) -> int:
    """The place of a label among those of a model; a whole number that is no name, or its digits, is a place itself."""
    name = label_name(label)
    found = numbers.get(name)
    if found is None and name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < len(numbers):
        found = int(name)
    if found is None:
        names = ", ".join(map(quote, list(numbers)[:8])) + (", ..." if len(numbers) > 8 else "")
        raise InputError(
            f"{where}: the label {quote(label)} is none of the model's ({names}); mend the row, or the labels"
        )
    return found


def from_cell(value: Any) -> Any:
    """The list or mapping that a cell of a csv or tsv table holds as JSON, all cells being texts; else the value."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def number_from_cell(value: Any) -> Any:
    """The number that a table's cell holds as a text; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def describe_field(fields: Mapping[str, Any], name: str) -> str:
    """What a row says under a name, to be quoted where it is refused; or that it says nothing, and what it has."""
    return f"is {quote(fields[name])}" if name in fields else f"is missing (it has: {', '.join(map(str, fields))[:80]})"


def is_label(value: object) -> bool:
    """Whether it is a name or a whole number; true and false are neither."""
    return type(value) is int or (is_text(value) and bool(value))


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be written: JSON may hold half a surrogate pair."""
    try:
        return isinstance(value, str) and value.encode("utf-8") is not None
    except UnicodeEncodeError:
        return False
