"""What tasks on texts and on pairs of texts share: the longer text in passes, each with all of the shorter one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError, ItemError, quote
from gossamer.models.evaluation import evaluating
from gossamer.models.heads import SequenceClassification
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Task
from gossamer.tasks.frames import PairFrame, find_pair_frame
from gossamer.tasks.passes import Pass, Progress, Reading, plan_passes, read_passes, room

__all__ = ["OverPasses", "PairOptions", "PairTask", "ReadPairs", "ScoreFunction", "TextTokens", "TokenPair", "score"]

ScoreFunction = Literal["softmax", "sigmoid", "none"]
OverPasses = Literal["mean", "max"]


class TextTokens(NamedTuple):
    """The ids of a text's tokens, and from which character to which each stands."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class TokenPair(NamedTuple):
    """Two texts that are read together, as tokens; number: of what is said of them."""

    number: int
    first: TextTokens
    second: TextTokens


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """How pairs are read: what a call says."""

    long: Long
    max_length: int | None
    stride: int | None
    batch_tokens: int | None


@dataclass(frozen=True, kw_only=True)
class ReadPairs:
    """Logits [pairs, labels] in float64; of each pair the tokens and the passes it was read in; remarks."""

    logits: Float[Tensor, "pairs labels"]
    tokens: list[int]
    passes: list[int]
    notes: list[str]


class PairTask(Task):
    """A task of a model with a sequence-classification head. Raises InputError for other models."""

    heads, load_with = (SequenceClassification,), "sequence-classification"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.head = cast(SequenceClassification, model.architecture.head)

    @cached_property
    def pair(self) -> PairFrame:
        """What the tokenizer puts around two texts."""
        return find_pair_frame(self.model.tokenizer)

    def _read_pairs(
        self,
        pairs: Sequence[TokenPair],
        options: PairOptions,
        progress: Progress | None,
        over_passes: OverPasses = "mean",
    ) -> ReadPairs:
        """The logits of each pair, and what is said of how it was read. Raises InputError for one without room."""
        readings = [self._reading(pair, options) for pair in pairs]
        tokens = [len(pair.first.ids) + len(pair.second.ids) for pair in pairs]
        lengths = [count + len(self.pair) for count in tokens]
        notes = self._fit(readings, options.long, " with its pair", lengths, options.max_length, len(self.pair))
        plan = plan_passes(self.model, readings, options.max_length, options.stride)
        logits = self._logits(readings, plan, options.batch_tokens, progress, over_passes)
        return ReadPairs(logits=logits, tokens=tokens, passes=[reading.passes for reading in readings], notes=notes)

    def _reading(self, pair: TokenPair, options: PairOptions) -> Reading:
        """The longer text in the frame of the shorter one."""
        first, second = pair.first, pair.second
        most, tokens = self.model.reading_length(options.max_length), len(first.ids) + len(second.ids)
        shorter = least = min(len(first.ids), len(second.ids))
        if options.long == "truncate" and tokens + len(self.pair) > most:  # the longer first, then both alike
            shorter = min(shorter, (most - len(self.pair)) // 2)
        if len(first.ids) > len(second.ids):
            frame = self.pair.around_first(second.ids[:shorter])
            reading = Reading(pair.number, first.ids, first.offsets, frame)
        else:
            frame = self.pair.around_second(first.ids[:shorter])
            reading = Reading(pair.number, second.ids, second.offsets, frame)
        if not shorter or room(self.model, frame, options.max_length) < 1:
            raise ItemError(
                pair.number,
                f"both texts of pair {pair.number} are long, the shorter {least} tokens, and the model "
                f"reads {most}: {self._remedy(tokens + len(self.pair))}, or shorten one of them",
            )
        return reading

    def _logits(
        self,
        readings: Sequence[Reading],
        plan: Sequence[Pass],
        batch_tokens: int | None,
        progress: Progress | None,
        over_passes: OverPasses = "mean",
    ) -> Float[Tensor, "texts labels"]:
        """The passes' logits: their mean, with the tokens that each keeps as weights, or the highest of each label."""
        lowest = 0.0 if over_passes == "mean" else -torch.inf
        found = torch.full((len(readings), len(self.head.labels)), lowest, dtype=torch.float64)
        with evaluating(self.model):
            read = read_passes(self.model, readings, plan, lambda out: out.logits, batch_tokens, progress)
            for reading, part, logits in read:
                if over_passes == "mean":
                    share = (part.keep_stop - part.keep_start) / len(reading.ids)
                    found[part.reading] += share * logits.double()
                else:
                    found[part.reading] = torch.maximum(found[part.reading], logits.double())
        return found

    def _function(self, asked: ScoreFunction | None) -> ScoreFunction:
        """What makes scores of the model's numbers: the function that is asked for, else the one that fits the head."""
        if asked is not None:
            if asked not in get_args(ScoreFunction):
                raise InputError(
                    f"function_to_apply is {quote(asked)}; it must be one of "
                    f"{', '.join(get_args(ScoreFunction))}, or None for what fits the model"
                )
            return asked
        if self.head.score_activation is not None:
            return "none" if self.head.score_activation == "identity" else "sigmoid"
        if self.head.problem_type == "regression":
            return "none"
        several_at_once = self.head.problem_type == "multi_label_classification"
        return "sigmoid" if several_at_once or len(self.head.labels) == 1 else "softmax"


def score(logits: Float[Tensor, "*texts labels"], function: ScoreFunction) -> Float[Tensor, "*texts labels"]:
    """Scores of a model's numbers, in float64: sigmoids of numbers of 17 and more are all 1 in float32."""
    numbers = logits.double()
    return {"none": numbers, "sigmoid": numbers.sigmoid(), "softmax": numbers.softmax(dim=-1)}[function]
