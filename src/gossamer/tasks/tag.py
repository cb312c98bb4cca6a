"""The task tag: names, parts of speech or other labels of a text's tokens, joined to entities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np
import torch
from jaxtyping import Float

from gossamer.errors import InputError, quote
from gossamer.models.evaluation import evaluating
from gossamer.models.heads import TokenClassification
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Result, Task, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, Reading, in_groups, read_states
from gossamer.tasks.stream import Streaming
from gossamer.tasks.viterbi import LabelOrder
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


class Tag(Streaming[Tagged], Task):
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
        constrained: bool = False,
        long: Long = "chunk",
        max_length: int | None = None,
        stride: int | None = None,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> Tagged:
        """The entities of each text, but those of `ignore_labels`.

        aggregation: "none" one entity a token; "simple" joins neighbours of one label ("B-PER" begins another entity,
        "I-PER" goes on, and the entity's label is "PER": what letters mean is found out from all labels of the model,
        in `scheme`); the others label whole words before they join them, by the word's "first" token, the "average" of
        its tokens' probabilities, or its token of the highest ("max"). An entity's score is the mean over its tokens or
        words. `ignore_labels`: as the labels are written, or as the kinds they are joined to; "O" is "o" in a scheme of
        small letters. constrained: of all labels in a row that make whole entities ("I-PER" behind a part of a "PER"
        alone), the likeliest. A text longer than the model is read in passes that share `stride` tokens, an eighth of
        what they hold unless given, each token's scores kept once, and joined afterwards: an entity on a border comes
        out whole. `long`, `max_length`, `batch_tokens` and `progress` are as in the task embed.

        Raises InputError for empty texts, an unknown aggregation, labels to ignore that are no names, a stride that
        leaves nothing new to read, and labels without a scheme that are to be `constrained`.
        """
        self._check(long, batch_tokens, max_length, stride)
        if not isinstance(aggregation, str) or aggregation not in get_args(Aggregation):
            raise InputError(
                f"aggregation is {quote(aggregation)}; it must be one of {', '.join(get_args(Aggregation))}"
            )
        self._check_constrained(constrained)
        ignored = _ignored(ignore_labels, self.scheme)
        listed = list_texts("texts", texts)
        readings = self._readings(listed)
        tokens = [len(reading.ids) for reading in readings]
        notes = self._fit(readings, long, max_length=max_length)
        entities: list[list[Entity]] = []
        with evaluating(self.model):
            for group, report in in_groups(readings, progress):
                read_states(self.model, group, batch_tokens, report, lambda out: out.logits, max_length, stride)
                for reading in group:
                    of_text = self._entities(listed[reading.text], reading, aggregation, constrained)
                    entities.append([entity for entity in of_text if entity.label not in ignored])
                    reading.forget()
        return Tagged(
            entities=entities,
            scheme=self.scheme.name,
            tokens=tokens,
            passes=[reading.passes for reading in readings],
            notes=notes,
        )

    def _check_constrained(self, constrained: object) -> None:
        if not isinstance(constrained, bool):
            raise InputError(f"constrained is {quote(constrained)}; it must be True or False")
        if constrained and not self.scheme.labels:
            raise InputError(
                "constrained is True, but the model's labels do not say where entities begin or end "
                f"({quote(', '.join(self.labels))}): leave it out"
            )

    def _entities(self, text: str, reading: Reading, aggregation: Aggregation, constrained: bool) -> Iterator[Entity]:
        scores = reading.states.softmax(dim=-1).numpy()
        goes_on = continues_word(self.model.tokenizer, text, reading.ids, reading.offsets)
        spans = reading.offsets
        if aggregation not in ("none", "simple"):
            scores, spans = _of_words(scores, spans, goes_on, aggregation)
            goes_on = [False] * len(spans)
        best = self._order.likeliest(np.log(scores + 1e-30), goes_on) if constrained else scores.argmax(axis=1)
        pieces = [
            _Piece(self.labels[label], float(row[label]), *span, on)
            for label, row, span, on in zip(best.tolist(), scores, spans, goes_on, strict=True)
        ]
        for piece in pieces if aggregation == "none" else _join(pieces, self.scheme):
            start, end = trim(text, piece.start, piece.end)
            yield Entity(label=piece.label, score=piece.score, start=start, end=end, text=text[start:end])

    @cached_property
    def _order(self) -> LabelOrder:
        return LabelOrder.of(self.scheme, self.labels)

    def _chunked(self) -> str:
        return f"{super()._chunked()}, each token's scores kept once"


def _ignored(labels: object, scheme: LabelScheme) -> set[str]:
    """Labels to ignore, one or several."""
    names = [labels] if isinstance(labels, str) else list(labels) if isinstance(labels, Iterable) else [None]
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"ignore_labels is {quote(labels)}; give a label or a list of them, or () to keep them all")
    return {*names, *([scheme.outside] if "O" in names else [])}


def _of_words(
    scores: Float[np.ndarray, "tokens labels"],
    offsets: Sequence[tuple[int, int]],
    goes_on: Sequence[bool],
    aggregation: Aggregation,
) -> tuple[Float[np.ndarray, "words labels"], list[tuple[int, int]]]:
    """The scores of words, and the characters from which to which each stands."""
    starts = [i for i, on in enumerate(goes_on) if not on or i == 0]
    rows, spans = [], []
    for start, stop in zip(starts, [*starts[1:], len(goes_on)], strict=True):
        of_word = scores[start:stop]
        if aggregation == "first":
            rows.append(of_word[0])
        elif aggregation == "average":
            rows.append(of_word.mean(axis=0))
        else:
            rows.append(of_word[int(of_word.max(axis=1).argmax())])
        spans.append((offsets[start][0], offsets[stop - 1][1]))
    return np.stack(rows), spans


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
