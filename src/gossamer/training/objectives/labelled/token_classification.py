"""Labels of words: names of persons, parts of speech, anything that stands in a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import InputError, quote
from gossamer.metrics.entities import count_entities
from gossamer.metrics.labels import f1
from gossamer.models import Model
from gossamer.models.heads import Head, TokenClassification
from gossamer.text import Document, Tokenizer
from gossamer.text.label_schemes import find_scheme
from gossamer.text.words import continues_word
from gossamer.training.data.packing import Frame, frame_of
from gossamer.training.objectives.base import IGNORED, Batch, Direction, learnt, unwrapped
from gossamer.training.objectives.labelled.class_weights import WeightedLabels
from gossamer.training.objectives.labelled.labels import (
    Example,
    LabelledRow,
    describe_field,
    from_cell,
    is_label,
    is_text,
    label_number,
    sorted_labels,
)

__all__ = ["TaggingObjective"]

_OUTSIDE = "O"


@dataclass(frozen=True)
class _Entity:
    """A stretch of characters with a label."""

    start: int
    end: int
    label: str


Span = tuple[int, int]
Offsets = Sequence[Span]
"""Where tokens, words or entities begin and end in a text, in characters."""


@dataclass(frozen=True, kw_only=True)
class TaggingObjective(WeightedLabels, kind="tagging"):
    """Labels of words, the head `TokenClassification`; a word's first token carries its label, the others none.

    A row has its words and a label for each (`tokens_field`, `tags_field`; the words are read with spaces between
    them), or a text and its entities (`entities_field`: "start" and "end" in characters, and "label"), whose words get
    "B-label" where an entity begins, "I-label" within it and "O" elsewhere (Ramshaw and Marcus 1995, as IOB2). What
    words are, `gossamer.text.words` says.
    """

    heads: ClassVar[tuple[type[Head], ...]] = (TokenClassification,)
    measures: ClassVar[tuple[str, ...]] = ("correct", "right", "found", "wanted")

    kind: Literal["tagging"] = "tagging"
    tokens_field: str = "tokens"
    tags_field: str = "tags"
    entities_field: str = "entities"

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.tags_field, self.entities_field)

    def new_head(self, rows: Sequence[LabelledRow] = (), usual: Head | None = None) -> TokenClassification:
        labels = self._names(rows, usual)
        self._check_several(labels, "words")
        return replace(cast(TokenClassification, usual or TokenClassification(labels=labels)), labels=labels)

    def label_names(self, rows: Sequence[LabelledRow]) -> tuple[str, ...]:
        return sorted_labels(label for one in rows for label in one.label.names())

    def read_row(self, document: Document, text_field: str) -> LabelledRow:
        fields, where = document.fields, document.name
        if self.entities_field in fields:
            entities = from_cell(fields[self.entities_field])
            return _read_entities(where, fields.get(text_field), entities, self.entities_field)
        words, tags = (from_cell(fields.get(name)) for name in (self.tokens_field, self.tags_field))
        if not isinstance(words, list) or not words or not all(is_text(one) and one.strip() for one in words):
            said = describe_field(fields, self.tokens_field)
            raise InputError(
                f"{where}: the field {self.tokens_field!r} {said}; it must be a list of words (in a table as JSON), "
                f"or the row have a text and {self.entities_field!r}"
            )
        if not isinstance(tags, list) or len(tags) != len(words) or not all(map(is_label, tags)):
            said = describe_field(fields, self.tags_field)
            raise InputError(
                f"{where}: the field {self.tags_field!r} {said}; it must be a list of labels, one for each of the "
                f"{len(words)} words"
            )
        return LabelledRow(name=where, text=" ".join(words), label=_Tags(tuple(map(len, words)), tuple(tags)))

    def encode(
        self, rows: Sequence[LabelledRow], tokenizer: Tokenizer, length: int, head: Head, *, control_tokens: bool
    ) -> list[Example]:
        numbers = {name: i for i, name in enumerate(cast(TokenClassification, head).labels)}
        frame = frame_of(tokenizer)
        return [_encode(row, tokenizer, frame, length, numbers, control_tokens) for row in rows]

    def count_labels(self, model: Model, batch: Batch) -> int:
        return int(learnt(batch["labels"]).sum())

    def measure(self, model: nn.Module, batch: Batch) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The loss; the words whose label is right, and the entities that are right, found and wanted."""
        out, labels = self.read(model, batch), batch["labels"]
        predicted, there = out.logits.argmax(dim=-1), learnt(labels)
        sums = {"correct": float((predicted == labels)[there].sum()), "right": 0.0, "found": 0.0, "wanted": 0.0}
        names = cast(TokenClassification, unwrapped(model).architecture.head).labels
        scheme = find_scheme(names)
        for row, truth, mask in zip(predicted, labels, there, strict=True):
            marked = ([names[label] for label in side[mask].tolist()] for side in (row, truth))
            for name, count in zip(("right", "found", "wanted"), count_entities(scheme, *marked), strict=True):
                sums[name] += count
        return out.loss, sums

    def scores(self, model: Model, loss: float, labels: int, sums: Mapping[str, float]) -> dict[str, float | None]:
        """The share of words that are right; where labels mark entities the F1 of whole entities."""
        accuracy = {"accuracy": sums["correct"] / labels if labels else None}
        if find_scheme(cast(TokenClassification, model.architecture.head).labels).name == "plain":
            return accuracy
        return accuracy | {"f1": f1(sums["right"], sums["found"], sums["wanted"])}

    def directions(self, model: Model | None = None) -> Mapping[str, Direction]:
        head = None if model is None else cast(TokenClassification, model.architecture.head)
        has_entities = head is None or find_scheme(head.labels).name != "plain"
        return {"accuracy": "higher", **({"f1": "higher"} if has_entities else {})}


@dataclass(frozen=True)
class _Tags:
    """Words of so many characters, a space between them, and a label for each."""

    lengths: tuple[int, ...]
    tags: tuple[str | int, ...]

    def names(self) -> Sequence[str | int]:
        return self.tags

    def labels(self, tokenizer: Tokenizer, text: str, ids: Sequence[int], offsets: Offsets) -> Iterator[Any]:
        """For each token the label of the word whose first token it is, or None."""
        ends = np.cumsum(np.array(self.lengths) + 1) - 1
        last = -1
        for start, end in offsets:
            place = start + len(text[start:end]) - len(text[start:end].lstrip())
            word = int(np.searchsorted(ends, place, side="right"))
            is_first = word > last and place < end
            last = word if is_first else last
            yield self.tags[word] if is_first else None


@dataclass(frozen=True)
class _Entities:
    """Entities in their order, none in another."""

    entities: tuple[_Entity, ...]

    def names(self) -> Sequence[str]:
        return [_OUTSIDE, *(f"{mark}-{one.label}" for one in self.entities for mark in "BI")]

    def labels(self, tokenizer: Tokenizer, text: str, ids: Sequence[int], offsets: Offsets) -> Iterator[Any]:
        """For each token the label of the word whose first token it is, or None."""
        goes_on = continues_word(tokenizer, text, ids, offsets)
        starts = [i for i, on in enumerate(goes_on) if not on or i == 0]
        ends = {start: offsets[stop - 1][1] for start, stop in pairwise([*starts, len(ids)])}
        before: _Entity | None = None
        for i, (start, end) in enumerate(offsets):
            if i not in ends or not text[start:end].strip():
                yield None
                continue
            entity = self._of(start + len(text[start:end]) - len(text[start:end].lstrip()), ends[i])
            yield _OUTSIDE if entity is None else f"{'I' if entity is before else 'B'}-{entity.label}"
            before = entity

    def _of(self, start: int, end: int) -> _Entity | None:
        """The entity that has characters of this word."""
        return next((one for one in self.entities if one.start < end and start < one.end), None)


def _read_entities(where: str, text: object, given: object, field: str) -> LabelledRow:
    if not is_text(text) or not text.strip():
        raise InputError(f"{where}: its text is {quote(text)}; a row with {field!r} must have a text (data.field)")
    if not isinstance(given, list):
        raise InputError(f"{where}: the field {field!r} is {quote(given)}; it must be a list of entities")
    entities = sorted((_entity(where, text, one) for one in given), key=lambda one: one.start)
    for one, other in pairwise(entities):
        if other.start < one.end:
            raise InputError(
                f"{where}: the entities {one.start} to {one.end} and {other.start} to {other.end} overlap; a word has "
                "one label: keep one of them"
            )
    return LabelledRow(name=where, text=text, label=_Entities(tuple(entities)))


def _entity(where: str, text: str, given: object) -> _Entity:
    fields = given if isinstance(given, dict) else {}
    start, end, label = (fields.get(name) for name in ("start", "end", "label"))
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text) or not is_label(label):
        raise InputError(
            f"{where}: the entity {quote(given)} must have a start and an end within the {len(text)} characters of its "
            "text, and a label"
        )
    return _Entity(start, end, str(label))


def _encode(
    row: LabelledRow, tokenizer: Tokenizer, frame: Frame, length: int, numbers: Mapping[str, int], control_tokens: bool
) -> Example:
    ids, offsets = tokenizer.encode_plain(row.text, control_tokens)
    labels = [
        IGNORED if label is None else label_number(label, numbers, row.name)
        for label in row.label.labels(tokenizer, row.text, ids, offsets)
    ]
    room = length - len(frame)
    learnt_ones = [*[IGNORED] * len(frame.before), *labels[:room], *[IGNORED] * len(frame.after)]
    whole = np.array([*frame.before, *ids[:room], *frame.after], dtype=np.int64)
    return Example(
        name=row.name, ids=whole, types=np.zeros_like(whole), labels=np.array(learnt_ones, dtype=np.int64),
        cut=len(ids) > room,
    )  # fmt: skip
