"""Beam search: several texts at once, of which the likeliest go on, and the likeliest that ended are the result."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.errors import InputError
from gossamer.generation.readers import reader_of
from gossamer.generation.rules import Following, Rules, Written, ruled
from gossamer.generation.sampling import checked_scores
from gossamer.generation.stream import TextStream
from gossamer.models.checks import require, require_count
from gossamer.models.evaluation import evaluating, without_head
from gossamer.models.model import Model

__all__ = ["Beams", "Search", "search_beams"]

EarlyStopping = bool | Literal["never"]
_MOST_PENALTY = 20
"""A million tokens to this power are a number yet."""


@dataclass(frozen=True, kw_only=True)
class Beams:
    """Beam search with `num_beams` texts a prompt, of which the `num_return_sequences` best are the result.

    A text's score is the logarithm of its probability over its number of new tokens to the power `length_penalty`:
    above 0 long texts gain, at 0 none does. early_stopping: True ends a search as soon as there are `num_beams` texts
    that ended; False where none that goes on would be better at its present length; "never" where none could become
    better. All as in `transformers`, which refers to Wu et al. 2016 (arXiv 1609.08144), section 7, for the penalty.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    num_return_sequences: int = 1

    def __post_init__(self) -> None:
        require_count(self, "num_beams", "num_return_sequences")
        penalty = self.length_penalty
        is_number = type(penalty) in (int, float) and abs(penalty) <= _MOST_PENALTY
        allowed = f"a number from -{_MOST_PENALTY} to {_MOST_PENALTY}; 0: lengths do not count"
        require(is_number, "length_penalty", penalty, allowed)
        known = isinstance(self.early_stopping, bool) or self.early_stopping == "never"
        require(known, "early_stopping", self.early_stopping, "true, false or 'never'")
        allowed = f"at most num_beams, {self.num_beams}"
        count = self.num_return_sequences
        require(count <= self.num_beams, "num_return_sequences", count, allowed)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A text that ended: its new tokens, its score with the penalty, and the token or string that ended it, or None."""

    ids: list[int]
    score: float
    stop: int | str | None


@dataclass(kw_only=True)
class Search:
    """The search for one prompt. given: what stands before the new tokens; source: the first of two texts.

    most: new tokens at most. stop_strings end a text too, as `tokenizer` writes it. choices: what alone may be written.
    """

    given: list[int]
    source: list[int] | None
    most: int
    ends: frozenset[int]
    stop_strings: Sequence[str] = ()
    tokenizer: Any = None
    choices: Following | None = None
    running: list[list[int]] = field(default_factory=lambda: [[]])
    scores: list[float] = field(default_factory=lambda: [0.0])
    ended: list[Ended] = field(default_factory=list)
    is_over: bool = False

    def advance(self, scores: Float[Tensor, "beams vocabulary"], beams: Beams) -> list[int]:
        """Take the next token of every text, of which the logarithms of probabilities are given.

        Returns which text each of those that go on was.
        """
        total = scores + torch.tensor(self.scores, dtype=scores.dtype, device=scores.device)[:, None]
        vocabulary = total.shape[1]
        # Enough that some go on though all of the best end.
        count = min(max(2, 1 + len(self.ends)) * beams.num_beams, total.numel())
        best = total.flatten().topk(count)
        places = [(at // vocabulary, at % vocabulary) for at in best.indices.tolist()]
        texts = [(before, [*self.running[before], token]) for before, token in places]
        stops = [self._stop(ids) for _, ids in texts]
        reached = len(self.running[0]) + 1 == self.most
        every = zip(texts, best.values.tolist(), stops, strict=True)
        found = [one for one in every if one[1] > -math.inf]  # what may not come is no text
        if not found and not self.ended:
            raise InputError("the rules leave no token that may come next: allow more")
        self._end(found[: beams.num_beams], reached, beams)
        going = [one for one in found if one[2] is None and not reached][: beams.num_beams]
        self.running, self.scores = [ids for (_, ids), _, _ in going], [score for _, score, _ in going]
        self.is_over = not going or self._is_over(beams)
        return [before for (before, _), _, _ in going]

    def result(self, beams: Beams) -> list[Ended]:
        """The best texts, best first."""
        return self.ended[: beams.num_return_sequences]

    def _stop(self, ids: list[int]) -> int | str | None:
        if ids[-1] in self.ends:
            return ids[-1]
        return self.read(ids).stop if self.stop_strings else None

    def read(self, ids: Sequence[int]) -> TextStream:
        """New tokens as text, which follows on the prompt where there is no other text."""
        text = TextStream(self.tokenizer, self.given if self.source is None else [], self.stop_strings)
        for one in ids:
            if one not in self.ends and text.stop is None:
                text.push(one)
        text.finish()
        return text

    def _end(self, found: Sequence[Any], reached: bool, beams: Beams) -> None:
        if beams.early_stopping is True and len(self.ended) == beams.num_beams:
            return
        new = [
            Ended(ids=ids, score=score / float(len(ids)) ** beams.length_penalty, stop=stop)
            for (_, ids), score, stop in found
            if stop is not None or reached
        ]
        ranked = sorted([*self.ended, *new], key=lambda one: -one.score)  # stable: the earlier of equals stays before
        self.ended = ranked[: beams.num_beams]

    def _is_over(self, beams: Beams) -> bool:
        if len(self.ended) < beams.num_beams:
            return False
        if beams.early_stopping is True:
            return True
        longest = beams.early_stopping == "never" and beams.length_penalty > 0
        length = self.most if longest else len(self.running[0])
        return self.scores[0] / float(length) ** beams.length_penalty <= self.ended[-1].score


def search_beams(model: Model, searches: Sequence[Search], beams: Beams, rules: Rules, use_cache: bool) -> float:
    """Search to the end for all prompts at once, and return the seconds it took."""
    begun = time.perf_counter()
    with evaluating(model), torch.inference_mode():
        body = without_head(model)
        sources = [one.source for one in searches if one.source is not None]
        reader = reader_of(body, sources, use_cache)
        going = list(searches)
        new = [one.given for one in going]
        while going:
            scores = checked_scores(model.scores(reader.read(new))).log_softmax(dim=-1)
            scores = ruled(scores, [_written(one, ids) for one in going for ids in one.running], rules)
            kept, first = [], 0
            for one in going:
                count = len(one.running)
                before = one.advance(scores[first : first + count], beams)
                kept += [] if one.is_over else [first + at for at in before]
                first += count
            going = [one for one in going if not one.is_over]
            new = [ids[-1:] for one in going for ids in one.running]
            if going:
                reader.select(kept)
    return time.perf_counter() - begun


def _written(search: Search, ids: list[int]) -> Written:
    return Written(
        ids=[*search.given, *ids], new=len(ids), most=search.most, ends=search.ends, choices=search.choices
    )  # fmt: skip
