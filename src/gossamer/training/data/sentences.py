"""Where sentences end, and how a piece of a text begins where it stands alone."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np

from gossamer.text import Tokenizer
from gossamer.text.byte_tokenizer import is_byte_tokenizer
from gossamer.text.encoding import count_ids
from gossamer.text.word_marks import WordMarks, word_marks

__all__ = ["SentenceMarks"]

_ENDS = (".", "!", "?", "\u2026", "\u3002", "\uff01", "\uff1f")
_CLOSING = "\"'\u201d\u2019\u00bb)]"
_LONGEST_WORD = 32
"""Tokens of a first word that are looked at."""
_REMEMBERED = 2**14
_CUT_CHARACTER = "\ufffd"


class SentenceMarks:
    """What a tokenizer's tokens say of sentences.

    ends: whether a sentence may end with a token: with . ! ? and the like, and quotes behind them. blank: whether it is
    white space alone. Both are bool [ids], False for ids that the vocabulary leaves out.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        names = tokenizer.tokens(range(count_ids(tokenizer)))
        texts = [tokenizer.decode([number], skip_special=False) if name else "-" for number, name in enumerate(names)]
        self.ends = np.array([text.rstrip().rstrip(_CLOSING).endswith(_ENDS) for text in texts])
        self.blank = np.array([not text.strip() for text in texts])
        self._respelled = lru_cache(_REMEMBERED)(self._respell)

    def alone(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens as they are where no text stands before them, and which of the given ones each is: int64 [tokens].

        Only the first word can differ, by the white space that its first token holds in some vocabularies.
        """
        places = np.arange(len(ids))
        size = self._first_word(ids[:_LONGEST_WORD]) if self._marks is not None else 0
        if not size:
            return ids, places
        word = self._respelled(tuple(ids[:size].tolist()))
        return np.array([*word, *ids[size:]]), np.append(np.minimum(np.arange(len(word)), size - 1), places[size:])

    @cached_property
    def _marks(self) -> WordMarks | None:
        """Of a vocabulary whose tokens hold the white space before them."""
        tokenizer = self._tokenizer
        if tokenizer.subword_prefix or is_byte_tokenizer(tokenizer):
            return None
        marks = word_marks(tokenizer)
        return marks if marks.known else None

    def _first_word(self, ids: np.ndarray) -> int:
        """Tokens of the first word; 0 where one of them is none of the text's."""
        assert self._marks is not None
        begins = self._marks.opens[ids[1:]] | self._marks.closes[ids[:-1]]
        size = 1 + int(np.argmax(begins)) if begins.any() else len(ids)
        unknown = ids[:size] == self._tokenizer.unk_id
        return 0 if (self._marks.special[ids[:size]] | unknown).any() else size

    def _respell(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        text = self._tokenizer.decode(ids, skip_special=False).strip()
        if not text or _CUT_CHARACTER in text:
            return ids
        return tuple(self._tokenizer.encode_plain(text, control_tokens=False)[0]) or ids
