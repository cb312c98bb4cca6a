"""The task rank: texts in the order in which they answer a query, by a cross-encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch

from gossamer.checks import require_whole
from gossamer.errors import InputError, ItemError, quote
from gossamer.models.model import Model
from gossamer.tasks.base import Long, Result, iterate, list_texts, of_the_call
from gossamer.tasks.names import checks_options
from gossamer.tasks.passes import Progress, check_progress
from gossamer.tasks.stream import TokensRead, item_groups
from gossamer.tasks.text_pairs import OverPasses, PairOptions, PairTask, ScoreFunction, TextTokens, TokenPair, score

__all__ = ["Rank", "RankedText", "RankedTexts"]


@dataclass(frozen=True, kw_only=True)
class RankedText:
    """A text, its number among those that were given, and its score."""

    index: int
    score: float
    text: str


@dataclass(frozen=True, kw_only=True)
class RankedTexts(Result):
    """The texts of each query, the highest score first; equal ones in the order in which they were given.

    `function_to_apply` is what made scores of the model's numbers, by which texts are sorted. `tokens` and `passes` are
    those of all texts with the query; `notes` are remarks, a line each.
    """

    texts: list[list[RankedText]]
    function_to_apply: ScoreFunction
    tokens: list[int]
    passes: list[int]
    notes: list[str]

    def part(self, i: int) -> RankedTexts:
        """What is given for query number i alone; notes are on texts, whose numbers stay."""
        return super().part(i).with_notes(self.notes)


@dataclass
class _Query:
    """A query, the best of the texts that were read with it so far, and how many tokens and passes these were."""

    tokens: TextTokens
    most: int | None
    best: list[tuple[torch.Tensor, int, str]] = field(default_factory=list)
    read_tokens: int = 0
    passes: int = 0


class Rank(PairTask):
    """Sort texts by how well they fit a query, with a model that reads both together (Nogueira and Cho 2019).

    Raises InputError for a model without a sequence-classification head.
    """

    doing = "rank"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.labels = self.head.labels

    @checks_options
    @torch.inference_mode()
    def __call__(
        self,
        queries: str | Sequence[str],
        texts: Iterable[str],
        top_k: int | None = None,
        label: str | None = None,
        function_to_apply: ScoreFunction | None = None,
        over_passes: OverPasses = "max",
        skip_bad: bool = False,
        long: Long = "chunk",
        max_length: int | None = None,
        stride: int | None = None,
        batch_tokens: int | None = None,
        progress: TokensRead | None = None,
    ) -> RankedTexts:
        """All of the texts, or the `top_k` of highest score, for each query.

        texts: from anything that can be iterated over; they are read in groups, and with `top_k` the others are not
        held. label: whose score it is, where the model has several. A text that does not fit with its query is read in
        passes, whose highest score is its own (MaxP: Dai and Callan 2019), or with `over_passes="mean"` their mean.
        skip_bad: a text that cannot be read, such as an empty one, is left out, with a note, in place of an error.
        Other options are those of the task classify; `progress(done, None)` counts the tokens of texts and queries.

        Raises InputError for empty queries and texts, no texts, and a label that the model does not have.
        """
        self._check(long, batch_tokens, max_length, stride)
        check_progress(progress)
        if top_k is not None:
            require_whole("top_k", top_k, of="texts", instead="None")
        if over_passes not in get_args(OverPasses):
            raise InputError(f"over_passes is {quote(over_passes)}; it must be 'max' or 'mean'")
        which, function = self._which(label), self._function(function_to_apply)
        options = PairOptions(long=long, max_length=max_length, stride=stride, batch_tokens=batch_tokens)
        with of_the_call():
            listed = list_texts("queries", queries)
            asked = [_Query(TextTokens(*self._tokenize("query", i, one)), top_k) for i, one in enumerate(listed)]
        notes: list[str] = []
        count = 0
        for group in item_groups(iterate("texts", texts)):
            numbered, said = self._tokenized(group, count, skip_bad)
            notes += said
            for query in asked:
                notes += self._add(query, numbered, which, options, over_passes, _shifted(progress, asked), skip_bad)
            count += len(group)
        if not any(query.best for query in asked):
            raise InputError(notes[0] if notes else "there are no texts: give at least one")
        return RankedTexts(
            texts=[_ranked(query, which, function) for query in asked],
            function_to_apply=function,
            tokens=[query.read_tokens for query in asked],
            passes=[query.passes for query in asked],
            notes=list(dict.fromkeys(notes)),
        )

    def _which(self, label: object) -> int:
        """The label whose score counts."""
        if label is None and len(self.labels) == 1:
            return 0
        if label not in self.labels:
            said = f"label is {quote(label)}" if label is not None else f"the model has {len(self.labels)} labels"
            raise InputError(f"{said}; name the one whose score counts, label, one of {', '.join(self.labels)}")
        return self.labels.index(str(label))

    def _tokenized(
        self, texts: Sequence[object], first: int, skip_bad: bool
    ) -> tuple[list[tuple[int, str, TextTokens]], list[str]]:
        """The texts with their numbers, and what is said of those that are left out."""
        kept: list[tuple[int, str, TextTokens]] = []
        notes = []
        for number, text in enumerate(texts, first):
            try:
                kept.append((number, str(text), TextTokens(*self._tokenize("text", number, text))))
            except ItemError as problem:
                if not skip_bad:
                    raise
                notes.append(f"left out: {problem}")
        return kept, notes

    def _add(
        self,
        query: _Query,
        texts: Sequence[tuple[int, str, TextTokens]],
        which: int,
        options: PairOptions,
        over_passes: OverPasses,
        progress: Progress | None,
        skip_bad: bool,
    ) -> list[str]:
        """Read the texts with a query, and keep those that are among the best."""
        left_out: list[str] = []
        read = None
        while texts and read is None:
            pairs = [TokenPair(number, query.tokens, tokens) for number, _, tokens in texts]
            try:
                read = self._read_pairs(pairs, options, progress, over_passes)
            except ItemError as problem:
                if not skip_bad:
                    raise
                left_out.append(f"left out: {problem}")
                texts = [one for one in texts if one[0] != problem.item]
        if read is None:
            return left_out
        new = [(row, number, text) for row, (number, text, _) in zip(read.logits, texts, strict=True)]
        query.best = sorted([*query.best, *new], key=lambda one: (-float(one[0][which]), one[1]))[: query.most]
        query.read_tokens += sum(read.tokens)
        query.passes += sum(read.passes)
        return [*left_out, *read.notes]


def _ranked(query: _Query, which: int, function: ScoreFunction) -> list[RankedText]:
    return [
        RankedText(index=number, score=float(score(logits, function)[which]), text=text)
        for logits, number, text in query.best
    ]


def _shifted(progress: TokensRead | None, queries: Sequence[_Query]) -> Progress | None:
    """The progress of one group, behind what was read before."""
    if progress is None:
        return None
    before = sum(query.read_tokens for query in queries)
    return lambda done, _: progress(before + done, None)
