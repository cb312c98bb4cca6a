"""Tokens taken out for a masked language model: single ones, whole words, or spans of words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gossamer.errors import InputError
from gossamer.models.next_token import IGNORED
from gossamer.text import Tokenizer, word_marks

if TYPE_CHECKING:
    from gossamer.training.objectives.texts.masking import MaskingObjective

__all__ = ["IGNORED", "MOST_TOKENS", "Masker"]

MOST_TOKENS = 16
"""Of one word: a longer run without a break (sequences of DNA, addresses, numbers) counts as several words."""
_MASKED, _REPLACED = 0.8, 0.9


class Masker:
    """Draws what is taken out of a row. Every token of the text goes with a probability of exactly `objective.share`.

    Raises InputError where the tokenizer has no mask, or marks no words that the objective asks for.
    """

    def __init__(self, objective: MaskingObjective, tokenizer: Tokenizer) -> None:
        if tokenizer.mask_id is None:
            raise InputError(
                f"objective.kind is {objective.kind!r}, but the tokenizer has no token for what is taken out; "
                "take one that has, such as byte_tokenizer(mask=True), or 'causal-lm'"
            )
        self._marks = word_marks(tokenizer)
        if objective.masking != "token" and not self._marks.known:
            raise InputError(
                f"objective.masking is {objective.masking!r}, but this tokenizer does not mark where words begin "
                "('##', 'Ġ' or '▁'); use 'token'"
            )
        self._mask_id = tokenizer.mask_id
        self._single = objective.masking == "token"
        self._ordinary = np.flatnonzero(self._marks.used & ~self._marks.special)
        longest = objective.longest if objective.masking == "n-gram" else 1
        chances = 1 / np.arange(1, longest + 1)
        self._up_to = np.cumsum(chances / chances.sum())
        self._begin = _chance_to_begin(self._up_to, objective.share)

    def __call__(
        self, ids: np.ndarray, text: np.ndarray, segments: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """One row [length] as the model sees it, and its labels, -100 where nothing was taken out.

        text: which tokens are the text's, neither special nor padding. segments: its documents, which no span crosses.
        """
        taken = self._draw(ids, text & ~self._marks.special[ids], segments, rng)
        labels = np.where(taken, ids, IGNORED)
        fate = rng.random(len(ids))
        others = self._ordinary[rng.integers(len(self._ordinary), size=len(ids))]
        shown = np.where(taken & (fate < _MASKED), self._mask_id, ids)
        return np.where(taken & (fate >= _MASKED) & (fate < _REPLACED), others, shown), labels

    def words(self, ids: np.ndarray, text: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """The number of each token's word, from 0, [length]; -1 for what can't be taken out.

        A word has at most MOST_TOKENS tokens, and one alone where its script has no spaces: else a row of Chinese
        would be one word, masked as a whole or not at all.
        """
        first = np.ones(len(ids), dtype=bool)
        if not self._single:
            marks = self._marks
            first[1:] = marks.opens[ids[1:]] | marks.closes[ids[:-1]]
            first[1:] |= marks.unspaced[ids[1:]] & ~marks.space[ids[:-1]]
            first[1:] |= (segments[1:] != segments[:-1]) | ~text[:-1]
            places = np.arange(len(ids))
            first |= (places - np.maximum.accumulate(np.where(first, places, 0))) % MOST_TOKENS == 0
        return np.where(text, np.cumsum(first & text) - 1, -1)

    def _draw(self, ids: np.ndarray, text: np.ndarray, segments: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Spans begin at any word with the same chance, and cover it and the next ones of its document.

        Before each document stand words that are not there: spans from them reach its first ones as often as others.
        """
        words = self.words(ids, text, segments)
        if not text.any():
            return np.zeros(len(ids), dtype=bool)
        starts = np.flatnonzero(np.diff(words[text], prepend=-1))
        documents = np.cumsum(np.diff(segments[text][starts], prepend=segments[0] - 1) != 0)
        before = len(self._up_to) - 1
        places = np.arange(len(starts)) + before * documents
        count = places[-1] + 1
        begins = rng.random(count) < self._begin
        lengths = np.searchsorted(self._up_to, rng.random(count), side="right") + 1
        covered = np.zeros(count, dtype=bool)
        for reach in range(before + 1):
            covered[reach:] |= (begins & (lengths > reach))[: count - reach]
        return text & covered[places][words]


def _chance_to_begin(up_to: np.ndarray, share: float) -> float:
    """With which chance q a span begins at each word, if `share` of them are covered: 1 - prod(1 - q P(n > m))."""
    reaching = 1 - np.concatenate([[0.0], up_to[:-1]])
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - np.prod(1 - middle * reaching) < share else (low, middle)
    return high
