"""The task tag: names, parts of speech or other labels of a text's tokens, joined to entities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import torch

from gossamer.errors import InputError, quote
from gossamer.models.evaluation import evaluating
from gossamer.models.heads import TokenClassification
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Result, Task, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, Reading, in_groups, read_states
from gossamer.text.label_schemes import LabelScheme, TokenLabel, find_scheme
from gossamer.text.words import continues_word, trim

__all__ = ["Aggregation", "Entity", "Tag", "Tagged"]

Aggregation = Literal["none", "simple", "first", "average", "max"]


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A label of a stretch of text: `text` is what stands from character `start` to `end`. `score`: its probability."""

    label: str
    score: float
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Tagged(Result):
    """The entities of each text, in order, and by which scheme labels were read ("BIO", "BIOES" ..., "plain": none).

    `tokens` and `passes` are, for each text, how long it is and in how many passes it was read; `notes` are remarks, a
    line each.
    """

    entities: list[list[Entity]]
    scheme: str
    tokens: list[int]
    passes: list[int]
    notes: list[str]


@dataclass(frozen=True)
class _Piece:
    """A token, or a word, with its label; a token may go on with the word of the one before."""

    label: str
    score: float
    start: int
    end: int
    goes_on: bool = False


class Tag(Task):
    """Label tokens with a model that has a token-classification head. Raises InputError for other models."""

    heads, load_with, doing = (TokenClassification,), "token-classification", "tag"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.labels = cast(TokenClassification, model.architecture.head).labels
        self.scheme = find_scheme(self.labels)

    @checks_options
    @torch.inference_mode()
    def __call__(
        self,
        texts: str | Sequence[str],
        aggregation: Aggregation = "simple",
        ignore_labels: Sequence[str] = ("O",),
        long: Long = "chunk",
        max_length: int | None = None,
        batch_tokens: int = 4096,
        progress: Progress | None = None,
    ) -> Tagged:
        """The entities of each text, but those of `ignore_labels`.

        aggregation: "none" one entity a token; "simple" joins neighbours of one label ("B-PER" begins another entity,
        "I-PER" goes on, and the entity's label is "PER": what letters mean is found out from all labels of the model,
        in `scheme`); the others label whole words before they join them, by the word's "first" token, the "average" of
        its tokens' probabilities, or its token of the highest ("max"). An entity's score is the mean over its tokens or
        words. `ignore_labels`: as the labels are written, or as the kinds they are joined to; "O" is "o" in a scheme of
        small letters. A text longer than the model is read in overlapping passes,
        each token's scores kept once, and joined afterwards: an entity on a border comes out whole. `long`,
        `max_length`, `batch_tokens` and `progress` are as in the task embed.

        Raises InputError for empty texts, an unknown aggregation, and labels to ignore that are no names.
        """
        self._check(long, batch_tokens, max_length)
        if not isinstance(aggregation, str) or aggregation not in get_args(Aggregation):
            raise InputError(
                f"aggregation is {quote(aggregation)}; it must be one of {', '.join(get_args(Aggregation))}"
            )
        ignored = _ignored(ignore_labels, self.scheme)
        listed = list_texts("texts", texts)
        readings = self._readings(listed)
        tokens = [len(reading.ids) for reading in readings]
        notes = self._fit(readings, long, max_length=max_length)
        entities: list[list[Entity]] = []
        with evaluating(self.model):
            for group, report in in_groups(readings, progress):
                read_states(self.model, group, batch_tokens, report, lambda out: out.logits, max_length)
                for reading in group:
                    of_text = self._entities(listed[reading.text], reading, aggregation)
                    entities.append([entity for entity in of_text if entity.label not in ignored])
                    reading.forget()
        return Tagged(
            entities=entities,
            scheme=self.scheme.name,
            tokens=tokens,
            passes=[reading.passes for reading in readings],
            notes=notes,
        )

    def _entities(self, text: str, reading: Reading, aggregation: Aggregation) -> Iterator[Entity]:
        scores = reading.states.softmax(dim=-1).numpy()
        goes_on = continues_word(self.model.tokenizer, text, reading.ids, reading.offsets)
        if aggregation in ("none", "simple"):
            pieces = [
                self._piece(row, *span, on) for row, span, on in zip(scores, reading.offsets, goes_on, strict=True)
            ]
        else:
            pieces = self._words(reading, scores, goes_on, aggregation)
        for piece in pieces if aggregation == "none" else _join(pieces, self.scheme):
            start, end = trim(text, piece.start, piece.end)
            yield Entity(label=piece.label, score=piece.score, start=start, end=end, text=text[start:end])

    def _piece(self, scores: np.ndarray, start: int, end: int, goes_on: bool = False) -> _Piece:
        best = int(scores.argmax())
        return _Piece(self.labels[best], float(scores[best]), start, end, goes_on)

    def _words(
        self, reading: Reading, scores: np.ndarray, goes_on: Sequence[bool], aggregation: Aggregation
    ) -> list[_Piece]:
        starts = [i for i, on in enumerate(goes_on) if not on or i == 0]
        pieces = []
        for start, stop in zip(starts, [*starts[1:], len(goes_on)], strict=True):
            rows = scores[start:stop]
            if aggregation == "first":
                row = rows[0]
            elif aggregation == "average":
                row = rows.mean(axis=0)
            else:
                row = rows[int(rows.max(axis=1).argmax())]
            pieces.append(self._piece(row, reading.offsets[start][0], reading.offsets[stop - 1][1]))
        return pieces

    def _chunked(self) -> str:
        return f"{super()._chunked()}, each token's scores kept once"


def _ignored(labels: object, scheme: LabelScheme) -> set[str]:
    """Labels to ignore, one or several."""
    names = [labels] if isinstance(labels, str) else list(labels) if isinstance(labels, Iterable) else [None]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"ignore_labels is {quote(labels)}; give a label or a list of them, or () to keep them all")
    return {*names, *([scheme.outside] if "O" in names else [])}


def _join(pieces: Sequence[_Piece], scheme: LabelScheme) -> Iterator[_Piece]:
    """Neighbours of one kind as one piece, its score the mean of theirs."""
    group: list[_Piece] = []
    last = TokenLabel("")
    for piece in pieces:
        label = scheme.read(piece.label)
        # The pieces of an entity's last word say alike that it ends.
        same_word = piece.goes_on and label == last and last.ends
        if group and not same_word and (label.begins or last.ends or label.kind != last.kind):
            yield _joined(group, last.kind)
            group = []
        group.append(piece)
        last = label
    if group:
        yield _joined(group, last.kind)


def _joined(group: Sequence[_Piece], kind: str) -> _Piece:
    score = sum(piece.score for piece in group) / len(group)
    return _Piece(kind, score, group[0].start, group[-1].end)
