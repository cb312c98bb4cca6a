"""The task classify: the scores of a text's labels, or of a pair's, however long they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError
from gossamer.models.encoder import Model
from gossamer.models.evaluation import evaluating
from gossamer.models.head_settings import SequenceClassification
from gossamer.tasks.base import Long, Task, check_number, list_texts
from gossamer.tasks.frames import PairFrame, find_pair_frame
from gossamer.tasks.passes import Progress, Reading, plan_passes, read_passes, room

__all__ = ["Classified", "Classify", "Label"]


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label and its score: a probability, or the number itself under a regression head."""

    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Classified:
    """The labels of each text (or pair), the highest score first.

    `tokens` and `passes` are, for each text, how long it is and in how many passes it was read; `notes` are remarks, a
    line each.
    """

    labels: list[list[Label]]
    tokens: list[int]
    passes: list[int]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return dataclasses.asdict(self)


class Classify(Task):
    """Classify texts with a model that has a sequence-classification head. Raises InputError for other models."""

    heads, load_with, doing = (SequenceClassification,), "sequence-classification", "classify"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.head = cast(SequenceClassification, model.architecture.head)

    @cached_property
    def pair(self) -> PairFrame:
        """What the tokenizer puts around two texts."""
        return find_pair_frame(self.model.tokenizer)

    @torch.inference_mode()
    def __call__(
        self,
        texts: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        top_k: int | None = None,
        long: Long = "chunk",
        batch_tokens: int = 4096,
        progress: Progress | None = None,
    ) -> Classified:
        """The labels of each text, all of them or the `top_k` of highest score; with `text_pair`, of each pair.

        Scores are, as in `transformers`, the softmax over the labels; the sigmoid of each under a head of several
        labels at once or of one; the numbers themselves under a regression head. A text longer than the model is read
        in overlapping passes and their logits are averaged, weighted by the tokens that each pass keeps; of a pair, the
        longer text is, and every pass holds the whole shorter one ("truncate" cuts the longer text first, then both
        alike). `long`, `batch_tokens` and `progress` are as in the
        task embed.

        Raises InputError for empty texts, for as many texts as pairs not being given, and for a pair whose shorter text
        leaves no room for the other.
        """
        self._check(long, batch_tokens)
        if top_k is not None:
            check_number("top_k", top_k, "a whole number of labels, 1 or more, or None")
        first = list_texts("texts", texts)
        if text_pair is None:
            readings = self._readings(first)
            tokens = [len(one.ids) for one in readings]
            notes = self._fit(readings, long)
        else:
            readings, tokens = self._pairs(first, text_pair, long)
            notes = self._fit(readings, long, " with its pair", [one + len(self.pair) for one in tokens])
        logits = self._logits(readings, batch_tokens, progress)
        return Classified(
            labels=[self._labels(row)[:top_k] for row in logits],
            tokens=tokens,
            passes=[one.passes for one in readings],
            notes=notes,
        )

    def _pairs(self, first: Sequence[object], text_pair: object, long: Long) -> tuple[list[Reading], list[int]]:
        """Each pair's reading, and how many tokens both texts are."""
        second = list_texts("text_pair", text_pair)
        if len(first) != len(second):
            raise InputError(f"there are {len(first)} texts and {len(second)} in text_pair: give one for each text")
        pairs = [self._pair(i, *both, long) for i, both in enumerate(zip(first, second, strict=True))]
        return [one for one, _ in pairs], [tokens for _, tokens in pairs]

    def _pair(self, i: int, first: object, second: object, long: Long) -> tuple[Reading, int]:
        """The longer text in the frame of the shorter one, and how many tokens both are."""
        ids, offsets = self._tokenize("text", i, first)
        pair_ids, pair_offsets = self._tokenize("text_pair", i, second)
        most, tokens = self.model.reading_length(), len(ids) + len(pair_ids)
        shorter = min(len(ids), len(pair_ids))
        if long == "truncate" and tokens + len(self.pair) > most:  # the longer first, then both alike
            shorter = min(shorter, (most - len(self.pair)) // 2)
        if len(ids) > len(pair_ids):
            reading = Reading(i, ids, offsets, self.pair.around_first(pair_ids[:shorter]))
        else:
            reading = Reading(i, pair_ids, pair_offsets, self.pair.around_second(ids[:shorter]))
        if not shorter or room(self.model, reading.frame) < 1:
            raise InputError(
                f"both texts of pair {i} are long, the shorter {min(len(ids), len(pair_ids))} tokens, and the model "
                f"reads {most}: {self._remedy(tokens + len(self.pair))}, or shorten one of them"
            )
        return reading, tokens

    def _logits(
        self, readings: Sequence[Reading], batch_tokens: int, progress: Progress | None
    ) -> Float[Tensor, "texts labels"]:
        """The passes' logits, averaged with the tokens that each keeps as weights."""
        sums = torch.zeros(len(readings), len(self.head.labels), dtype=torch.float64)
        plan = plan_passes(self.model, readings)
        with evaluating(self.model):
            read = read_passes(self.model, readings, plan, lambda out: out.logits, batch_tokens, progress)
            for _, part, logits in read:
                sums[part.reading] += (part.keep_stop - part.keep_start) * logits.double()
        return (sums / torch.tensor([[len(one.ids)] for one in readings])).float()

    def _labels(self, logits: Float[Tensor, " labels"]) -> list[Label]:
        problem, labels = self.head.problem_type, self.head.labels
        if problem == "regression":
            scores = logits
        elif problem == "multi_label_classification" or len(labels) == 1:
            scores = logits.sigmoid()
        else:
            scores = logits.softmax(dim=-1)
        found = [Label(label=label, score=score) for label, score in zip(labels, scores.tolist(), strict=True)]
        return sorted(found, key=lambda one: -one.score)

    def _chunked(self) -> str:
        return f"{super()._chunked()}, whose scores are averaged"
