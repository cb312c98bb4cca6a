"""The task classify: the scores of a text's labels, or of a pair's, however long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, plural
from gossamer.tasks.base import Long, Result, list_fields, list_texts
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, plan_passes
from gossamer.tasks.stream import Streaming
from gossamer.tasks.text_pairs import PairOptions, PairTask, ReadPairs, ScoreFunction, TextTokens, TokenPair, score

__all__ = ["Classified", "Classify", "Label"]


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label and its score: a probability, or the model's own number (a regression, `function_to_apply="none"`)."""

    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Classified(Result):
    """The labels of each text (or pair), the highest score first.

    `function_to_apply` is what made scores of the model's numbers. `tokens` and `passes` are, for each text, how long
    it is and in how many passes it was read; `notes` are remarks, a line each.
    """

    labels: list[list[Label]]
    function_to_apply: ScoreFunction
    tokens: list[int]
    passes: list[int]
    notes: list[str]


class Classify(Streaming[Classified], PairTask):
    """Classify texts with a model that has a sequence-classification head. Raises InputError for other models."""

    doing = "classify"

    @checks_options
    @torch.inference_mode()
    def __call__(
        self,
        texts: str | Sequence[str] | Mapping[str, str] | Sequence[Mapping[str, str]],
        text_pair: str | Sequence[str] | None = None,
        top_k: int | None = None,
        function_to_apply: ScoreFunction | None = None,
        long: Long = "chunk",
        max_length: int | None = None,
        stride: int | None = None,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
    ) -> Classified:
        """The labels of each text, all of them or the `top_k` of highest score; with `text_pair`, of each pair.

        A pair may be a dict of "text" and "text_pair" as well, one or a list of them. Scores are, as in `transformers`,
        the softmax over the labels; the sigmoid of each under a head of several labels at once or of one; the numbers
        themselves under a regression head; or what the model's sentence-transformers settings say, as in a
        `CrossEncoder`; or what `function_to_apply` names: "softmax", "sigmoid" or "none", the numbers themselves, for a
        re-ranker whose scores are all near 1. A text longer than the model is read in overlapping passes and their
        logits are averaged, weighted by the tokens that each pass keeps; of a pair, the longer text is, and every pass
        holds the whole shorter one ("truncate" cuts the longer text first, then both alike). `long`, `max_length`,
        `batch_tokens` and `progress` are as in the task embed, `stride` as in tag.

        Raises InputError for empty texts, an unknown function, as many texts as pairs not being given, and for a pair
        whose shorter text leaves no room for the other.
        """
        self._check(long, batch_tokens, max_length, stride)
        if top_k is not None:
            require_whole("top_k", top_k, of="labels", instead="None")
        function = self._function(function_to_apply)
        first, second = _with_pairs(texts, text_pair)
        options = PairOptions(long=long, max_length=max_length, stride=stride, batch_tokens=batch_tokens)
        if second is None:
            read = self._read_texts(first, options, progress)
        else:
            read = self._read_pairs(self._pairs(first, list_texts("text_pair", second)), options, progress)
        return Classified(
            labels=[self._labels(row, function)[:top_k] for row in read.logits],
            function_to_apply=function,
            tokens=read.tokens,
            passes=read.passes,
            notes=read.notes,
        )

    def _on_items(self, items: Sequence[Any], numbers: Sequence[int], **options: Any) -> Classified:
        if options.get("text_pair") is not None:
            raise InputError(
                "text_pair is given beside a stream of texts; give each text with its own, as a dict "
                "{'text': ..., 'text_pair': ...}"
            )
        return self(items, **options)

    def _pairs(self, first: Sequence[object], second: Sequence[object]) -> list[TokenPair]:
        if len(first) != len(second):
            raise InputError(
                f"there are {plural(len(first), 'text')} and {len(second)} in text_pair: give one for each text"
            )
        return [
            TokenPair(
                i, TextTokens(*self._tokenize("text", i, text)), TextTokens(*self._tokenize("text_pair", i, other))
            )
            for i, (text, other) in enumerate(zip(first, second, strict=True))
        ]

    def _read_texts(self, texts: Sequence[object], options: PairOptions, progress: Progress | None) -> ReadPairs:
        readings = self._readings(texts)
        tokens = [len(reading.ids) for reading in readings]
        notes = self._fit(readings, options.long, max_length=options.max_length)
        plan = plan_passes(self.model, readings, options.max_length, options.stride)
        logits = self._logits(readings, plan, options.batch_tokens, progress)
        return ReadPairs(logits=logits, tokens=tokens, passes=[reading.passes for reading in readings], notes=notes)

    def _labels(self, logits: Float[Tensor, " labels"], function: ScoreFunction) -> list[Label]:
        values = score(logits, function).tolist()
        labels = [Label(label=label, score=value) for label, value in zip(self.head.labels, values, strict=True)]
        return sorted(labels, key=lambda label: -label.score)

    def _chunked(self) -> str:
        return f"{super()._chunked()}, whose scores are averaged"


def _with_pairs(texts: object, text_pair: object) -> tuple[list[Any], object]:
    """Texts, and the second text of each: given apart, or in the texts' dicts."""
    first, of_dicts = list_fields("texts", texts, "text", "text_pair")
    if of_dicts is not None and text_pair is not None:
        raise InputError("text_pair is given twice, in the dicts and beside them: give it once")
    return first, text_pair if of_dicts is None else of_dicts
