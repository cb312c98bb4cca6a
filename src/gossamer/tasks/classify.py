"""The task classify: the scores of a text's labels, or of a pair's, however long they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, plural, quote
from gossamer.models.evaluation import evaluating
from gossamer.models.heads import SequenceClassification
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Result, Task, list_fields, list_texts
from gossamer.tasks.frames import PairFrame, find_pair_frame
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Pass, Progress, Reading, plan_passes, read_passes, room
from gossamer.tasks.stream import Streaming

__all__ = ["Classified", "Classify", "Label", "ScoreFunction"]

ScoreFunction = Literal["softmax", "sigmoid", "none"]


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


class Classify(Streaming[Classified], Task):
    """Classify texts with a model that has a sequence-classification head. Raises InputError for other models."""

    heads, load_with, doing = (SequenceClassification,), "sequence-classification", "classify"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.head = cast(SequenceClassification, model.architecture.head)

    @cached_property
    def pair(self) -> PairFrame:
        """What the tokenizer puts around two texts."""
        return find_pair_frame(self.model.tokenizer)

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
        batch_tokens: int = 4096,
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
        if function_to_apply not in (None, *get_args(ScoreFunction)):
            raise InputError(
                f"function_to_apply is {quote(function_to_apply)}; it must be one of "
                f"{', '.join(get_args(ScoreFunction))}, or None for what fits the model"
            )
        first, second = _with_pairs(texts, text_pair)
        if second is None:
            readings = self._readings(first)
            tokens = [len(reading.ids) for reading in readings]
            notes = self._fit(readings, long, max_length=max_length)
        else:
            readings, tokens = self._pairs(first, second, long, max_length)
            lengths = [count + len(self.pair) for count in tokens]
            notes = self._fit(readings, long, " with its pair", lengths, max_length, len(self.pair))
        plan = plan_passes(self.model, readings, max_length, stride)
        function = self._function() if function_to_apply is None else function_to_apply
        return Classified(
            labels=[
                self._labels(row, function)[:top_k] for row in self._logits(readings, plan, batch_tokens, progress)
            ],
            function_to_apply=function,
            tokens=tokens,
            passes=[reading.passes for reading in readings],
            notes=notes,
        )

    def _pairs(
        self, first: Sequence[object], text_pair: object, long: Long, max_length: int | None
    ) -> tuple[list[Reading], list[int]]:
        """Each pair's reading, and how many tokens both texts are."""
        second = list_texts("text_pair", text_pair)
        if len(first) != len(second):
            raise InputError(
                f"there are {plural(len(first), 'text')} and {len(second)} in text_pair: give one for each text"
            )
        pairs = [self._pair(i, *both, long, max_length) for i, both in enumerate(zip(first, second, strict=True))]
        return [reading for reading, _ in pairs], [tokens for _, tokens in pairs]

    def _pair(self, i: int, first: object, second: object, long: Long, max_length: int | None) -> tuple[Reading, int]:
        """The longer text in the frame of the shorter one, and how many tokens both are."""
        ids, offsets = self._tokenize("text", i, first)
        pair_ids, pair_offsets = self._tokenize("text_pair", i, second)
        most, tokens = self.model.reading_length(max_length), len(ids) + len(pair_ids)
        shorter = min(len(ids), len(pair_ids))
        if long == "truncate" and tokens + len(self.pair) > most:  # the longer first, then both alike
            shorter = min(shorter, (most - len(self.pair)) // 2)
        if len(ids) > len(pair_ids):
            reading = Reading(i, ids, offsets, self.pair.around_first(pair_ids[:shorter]))
        else:
            reading = Reading(i, pair_ids, pair_offsets, self.pair.around_second(ids[:shorter]))
        if not shorter or room(self.model, reading.frame, max_length) < 1:
            raise ItemError(
                i,
                f"both texts of pair {i} are long, the shorter {min(len(ids), len(pair_ids))} tokens, and the model "
                f"reads {most}: {self._remedy(tokens + len(self.pair))}, or shorten one of them",
            )
        return reading, tokens

    def _logits(
        self, readings: Sequence[Reading], plan: Sequence[Pass], batch_tokens: int, progress: Progress | None
    ) -> Float[Tensor, "texts labels"]:
        """The passes' logits, averaged with the tokens that each keeps as weights."""
        sums = torch.zeros(len(readings), len(self.head.labels), dtype=torch.float64)
        with evaluating(self.model):
            read = read_passes(self.model, readings, plan, lambda out: out.logits, batch_tokens, progress)
            for _, part, logits in read:
                sums[part.reading] += (part.keep_stop - part.keep_start) * logits.double()
        return sums / torch.tensor([[len(reading.ids)] for reading in readings])

    def _function(self) -> ScoreFunction:
        """What makes scores of the model's numbers unless another function is asked for."""
        if self.head.score_activation is not None:
            return "none" if self.head.score_activation == "identity" else "sigmoid"
        if self.head.problem_type == "regression":
            return "none"
        several_at_once = self.head.problem_type == "multi_label_classification"
        return "sigmoid" if several_at_once or len(self.head.labels) == 1 else "softmax"

    def _labels(self, logits: Float[Tensor, " labels"], function: ScoreFunction) -> list[Label]:
        # In float64: sigmoids of numbers of 17 and more are all 1 in float32.
        values = {"none": logits, "sigmoid": logits.sigmoid(), "softmax": logits.softmax(dim=-1)}[function]
        labels = [
            Label(label=label, score=score) for label, score in zip(self.head.labels, values.tolist(), strict=True)
        ]
        return sorted(labels, key=lambda label: -label.score)

    def _chunked(self) -> str:
        return f"{super()._chunked()}, whose scores are averaged"


def _with_pairs(texts: object, text_pair: object) -> tuple[list[Any], object]:
    """Texts, and the second text of each: given apart, or in the texts' dicts."""
    first, of_dicts = list_fields("texts", texts, "text", "text_pair")
    if of_dicts is not None and text_pair is not None:
        raise InputError("text_pair is given twice, in the dicts and beside them: give it once")
    return first, text_pair if of_dicts is None else of_dicts
