"""Rows of pairs and triplets: the columns that hold an anchor, what belongs to it, what does not, and how alike."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gossamer.errors import InputError, quote
from gossamer.models.checks import is_finite
from gossamer.text import Document
from gossamer.training.objectives.labelled.labels import (
    Example,
    LabelledRow,
    from_cell,
    is_text,
    number_from_cell,
    padded,
)

__all__ = ["ANCHORS", "POSITIVES", "PairColumns", "PairExample", "PairRow", "collate_pairs", "read_pair", "says_alike"]

ANCHORS = ("anchor", "query", "question", "sentence1")
POSITIVES = ("positive", "answer", "sentence2")
_NEGATIVE = re.compile(r"negatives?(_\d+)?")


@dataclass(frozen=True, kw_only=True)
class PairRow(LabelledRow):
    """`text`: the anchor; `pair`: the positive, or the other of two sentences; and texts that do not belong.

    label: a score, float; whether both mean the same, bool; None where the row says neither.
    """

    pair: str
    negatives: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text, self.pair, *self.negatives)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairExample(Example):
    """A row's texts one behind another in `ids`; lengths: of each, numbers: equal where texts are, int64 [texts].

    said: what the row says beside its texts, by the name that a loss knows it by.
    """

    lengths: np.ndarray
    numbers: np.ndarray
    said: Mapping[str, np.ndarray]

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.ids, self.lengths, *self.said.values()


@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """What the columns are called; None: the first of the usual names that is there."""

    anchor: str | None = None
    positive: str | None = None
    negative: str | None = None
    score: str = "score"
    label: str = "label"


def read_pair(document: Document, columns: PairColumns) -> PairRow:
    """One row; InputError names it and the column that is missing or wrong."""
    fields, where = document.fields, document.name
    text = _text(fields, (columns.anchor,) if columns.anchor else ANCHORS, where, "objective.anchor_field")
    pair = _text(fields, (columns.positive,) if columns.positive else POSITIVES, where, "objective.positive_field")
    named = list(filter(_NEGATIVE.fullmatch, fields)) if columns.negative is None else [columns.negative]
    return PairRow(
        name=where, text=text, pair=pair, negatives=tuple(_negatives(fields, named, where)),
        label=_said(fields.get(columns.score), fields.get(columns.label), where),
    )  # fmt: skip


def says_alike(label: Any) -> bool:
    """Whether a label says if two texts mean the same: 1 or 0, true or false; null says nothing."""
    number = number_from_cell(label)
    return label is None or isinstance(number, bool) or (isinstance(number, int | float) and number in (0, 1))


def number_of(ids: Sequence[int]) -> int:
    """A number of a text's tokens: equal texts have equal ones, and others hardly ever."""
    digest = hashlib.blake2b(np.array(ids, dtype=np.int64).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def collate_pairs(examples: Sequence[PairExample], pad_id: int) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` int64 [rows, texts, length]; `labels` 0 a row, `texts` their numbers."""
    texts = [text for one in examples for text in np.split(one.ids, np.cumsum(one.lengths)[:-1])]
    shape = (len(examples), len(examples[0].lengths), max(map(len, texts)))
    batch = {
        "input_ids": padded(texts, shape[-1], pad_id).view(shape),
        "attention_mask": padded([np.ones_like(one) for one in texts], shape[-1], 0).view(shape),
        "labels": torch.from_numpy(np.stack([one.labels for one in examples])),
        "texts": torch.from_numpy(np.stack([one.numbers for one in examples])),
    }
    return batch | {name: torch.from_numpy(np.stack([one.said[name] for one in examples])) for name in examples[0].said}


def _text(fields: Mapping[str, Any], names: Collection[str], where: str, setting: str) -> str:
    name = next((one for one in names if one in fields), None)
    if name is None:
        has = ", ".join(map(str, fields))[:80]
        raise InputError(f"{where}: has no column {' or '.join(map(repr, names))} (it has: {has}); name it ({setting})")
    return _checked(fields[name], name, where)


def _negatives(fields: Mapping[str, Any], names: Iterable[str], where: str) -> Iterator[str]:
    """Of `negative`, `negative_1` ..., `negatives`: a text each or a list of them; null is none."""
    for name in names:
        value = from_cell(fields.get(name))
        several = value if isinstance(value, list) else [value]
        yield from (_checked(one, name, where) for one in several if one is not None)


def _checked(value: Any, name: str, where: str) -> str:
    if not is_text(value) or not value.strip():
        raise InputError(f"{where}: the field {name!r} is {quote(value)}; it must be a text")
    return value


def _said(score: Any, label: Any, where: str) -> float | bool | None:
    if score is not None and label is not None:
        raise InputError(f"{where}: has a score and a label; leave one of the columns out")
    if score is not None:
        number = number_from_cell(score)
        if not is_finite(number) or not -1 <= number <= 1:
            raise InputError(f"{where}: score is {quote(score)}; it must be a cosine, from -1 to 1: divide by the most")
        return float(number)
    if label is None:
        return None
    if says_alike(label):
        return bool(number_from_cell(label))
    raise InputError(
        f"{where}: label is {quote(label)}; it must be 1 where both mean the same, 0 where not; a likeness is a score"
    )
