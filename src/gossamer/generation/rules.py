"""What a text may not, or must, go on with: rules that change the scores of the next token before one is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.checks import is_whole
from gossamer.errors import InputError, quote
from gossamer.models.checks import require, require_count

__all__ = ["Following", "Processor", "Rules", "Written", "check_left", "check_rules", "ruled"]

Processor = Callable[[list[list[int]], Tensor], Tensor]
"""One's own rule: of the ids of each row so far, prompt or start included, and scores [rows, vocabulary]."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Rules for the next token, in this order and as in `transformers`; the defaults change nothing.

    repetition_penalty: scores of tokens that stand in the text are divided by it where above 0, else multiplied (Keskar
    et al. 2019, arXiv 1909.05858, section 4.1). no_repeat_ngram_size: no run of so many tokens comes twice (Paulus et
    al. 2017, arXiv 1705.04304, section 2.5); 0: any may. Of a decoder alone the prompt counts as text for both.
    min_new_tokens: before those no token ends the text. forced_bos_token_id: what follows the first token of a text, of
    two texts the start of the second. forced_eos_token_id: the last that `max_new_tokens` allows. suppress_tokens:
    never; begin_suppress_tokens: not as the first new one that is not forced. bad_words_ids: runs of tokens that never
    come, but for one token that ends texts. processors: functions of one's own, after all others.
    """

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    min_new_tokens: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | tuple[int, ...] | None = None
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    processors: tuple[Processor, ...] = ()

    def __post_init__(self) -> None:
        penalty = self.repetition_penalty
        is_number = type(penalty) in (int, float) and 0 < penalty < math.inf
        require(is_number, "repetition_penalty", penalty, "a finite number above 0; 1 changes nothing")
        require_count(self, "no_repeat_ngram_size", "min_new_tokens", least=0)
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            object.__setattr__(self, name, _ids(name, getattr(self, name)))
        if self.forced_bos_token_id is not None:
            first = self.forced_bos_token_id
            require(is_whole(first, 0), "forced_bos_token_id", first, "a token id, a whole number from 0")
            require(first not in self.suppress_tokens, "forced_bos_token_id", first, "a token that is not suppressed")
        if self.forced_eos_token_id == ():
            object.__setattr__(self, "forced_eos_token_id", None)
        if self.forced_eos_token_id is not None:
            object.__setattr__(self, "forced_eos_token_id", _ids("forced_eos_token_id", self.forced_eos_token_id))
            both = sorted(set(self.forced_ends) & set(self.suppress_tokens))
            require(not both, "forced_eos_token_id", both, "tokens that are not suppressed")
        object.__setattr__(self, "bad_words_ids", _runs(self.bad_words_ids))
        whole = isinstance(self.processors, Sequence) and all(map(callable, self.processors))
        require(whole, "processors", self.processors, "a tuple of functions of (ids, scores)")

    @property
    def forced_ends(self) -> tuple[int, ...]:
        """The tokens of which the last is one; () for none."""
        ends = self.forced_eos_token_id
        return () if ends is None else (ends,) if isinstance(ends, int) else ends

    @property
    def change_nothing(self) -> bool:
        """Whether no score is changed."""
        return self == Rules()


def _ids(name: str, value: object) -> tuple[int, ...]:
    listed = [value] if isinstance(value, int) else sorted(value) if isinstance(value, Set) else value
    whole = isinstance(listed, Sequence) and not isinstance(listed, str) and all(is_whole(one, 0) for one in listed)
    if not whole:
        raise InputError(f"{name} is {quote(value)}; give a token id, a whole number from 0, or a list of them")
    return tuple(listed)  # type: ignore[arg-type]


def _runs(value: object) -> tuple[tuple[int, ...], ...]:
    whole = isinstance(value, Sequence) and not isinstance(value, str)
    if not whole or not all(isinstance(run, Sequence) and run and not isinstance(run, str) for run in value):  # type: ignore[attr-defined]
        raise InputError(f"bad_words_ids is {quote(value)}; give a list of lists of token ids, one or more in each")
    return tuple(_ids("bad_words_ids", run) for run in value)  # type: ignore[attr-defined]


@runtime_checkable
class Following(Protocol):
    """Says which tokens may follow those that are new."""

    def following(self, ids: Sequence[int]) -> list[int]: ...


@dataclass(frozen=True, kw_only=True)
class Written:
    """A text so far: all of its `ids`, how many of them are `new`, how many new ones it may have, and what ends it.

    choices: what alone may be written, if anything may not.
    """

    ids: list[int]
    new: int
    most: int
    ends: frozenset[int]
    choices: Following | None = None


def check_rules(rules: Rules, vocabulary: int, max_new_tokens: int) -> None:
    """Raise InputError for ids that the model has not, and for more new tokens than there may be."""
    for name in ("suppress_tokens", "begin_suppress_tokens", "forced_ends"):
        wrong = [one for one in getattr(rules, name) if one >= vocabulary]
        named = "forced_eos_token_id" if name == "forced_ends" else name
        require(not wrong, named, wrong, f"token ids from 0 to {vocabulary - 1}")
    wrong = [one for run in rules.bad_words_ids for one in run if one >= vocabulary]
    require(not wrong, "bad_words_ids", wrong, f"token ids from 0 to {vocabulary - 1}")
    first = rules.forced_bos_token_id
    require(first is None or first < vocabulary, "forced_bos_token_id", first, f"a token id from 0 to {vocabulary - 1}")
    allowed = f"at most max_new_tokens, {max_new_tokens}"
    require(rules.min_new_tokens <= max_new_tokens, "min_new_tokens", rules.min_new_tokens, allowed)
    left = vocabulary - len(set(rules.suppress_tokens))
    require(left > 0, "number of suppress_tokens", vocabulary, "fewer than the words that there are")


def ruled(
    scores: Float[Tensor, "rows vocabulary"], texts: Sequence[Written], rules: Rules
) -> Float[Tensor, "rows vocabulary"]:
    """Scores under the rules; -inf is what may not come."""
    if rules.change_nothing and all(text.choices is None for text in texts):
        return scores
    # At least float32: a penalty on half numbers would be rounded.
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32), copy=True)
    for row, text in zip(scores, texts, strict=True):
        _penalise(row, text.ids, rules.repetition_penalty)
        row[_repeating(text.ids, rules.no_repeat_ngram_size)] = -torch.inf
        row[_completing(text, rules.bad_words_ids)] = -torch.inf
        if text.new < rules.min_new_tokens:
            row[sorted(text.ends)] = -torch.inf
        first = rules.forced_bos_token_id if len(text.ids) - text.new == 1 else None
        if text.new == 0 and first is not None:
            _force(row, (first,))
        if text.new == text.most - 1 and rules.forced_ends:
            _force(row, rules.forced_ends)
        row[list(rules.suppress_tokens)] = -torch.inf
        if text.new == (0 if first is None else 1):
            row[list(rules.begin_suppress_tokens)] = -torch.inf
        if text.choices is not None:
            _allow(row, text.choices.following(text.ids[len(text.ids) - text.new :]))
    for processor in rules.processors:
        changed = processor([text.ids for text in texts], scores)
        if not isinstance(changed, Tensor) or changed.shape != scores.shape:
            raise InputError(f"a processor gave {quote(changed)}; it must give scores shaped {list(scores.shape)}")
        scores = changed
    return scores


def check_left(scores: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows vocabulary"]:
    """The same scores. InputError where rules leave a row no token, or where a processor made NaN."""
    best = scores.amax(dim=-1)
    if bool(best.isnan().any()):
        raise InputError("a processor gave NaN for a score; -inf is what may not come")
    if bool((best == -torch.inf).any()):
        raise InputError("the rules leave no token that may come next: allow more")
    return scores


def _penalise(row: Tensor, ids: list[int], penalty: float) -> None:
    if penalty != 1:
        there = sorted(set(ids))
        chosen = row[there]
        row[there] = torch.where(chosen < 0, chosen * penalty, chosen / penalty)


def _repeating(ids: list[int], size: int) -> list[int]:
    """Tokens that would complete a run of this size which stands in the text already."""
    if not size or len(ids) + 1 < size:
        return []
    last = ids[len(ids) + 1 - size :]
    runs = range(len(ids) - size + 1)
    return [ids[i + size - 1] for i in runs if ids[i : i + size - 1] == last]


def _completing(text: Written, runs: Sequence[tuple[int, ...]]) -> list[int]:
    """Tokens that would complete one of these runs; as in `transformers`, not before the text is as long as the run."""
    words = [run for run in runs if len(run) > 1 or run[0] not in text.ends]
    before = {size: tuple(text.ids[len(text.ids) + 1 - size :]) for size in {len(run) for run in words}}
    return [run[-1] for run in words if len(run) == 1 or (len(run) <= len(text.ids) and before[len(run)] == run[:-1])]


def _allow(row: Tensor, tokens: Sequence[int]) -> None:
    left_out = torch.ones_like(row, dtype=torch.bool)
    left_out[list(tokens)] = False
    row.masked_fill_(left_out, -torch.inf)


def _force(row: Tensor, tokens: Sequence[int]) -> None:
    row.fill_(-torch.inf)
    row[list(tokens)] = 0.0
