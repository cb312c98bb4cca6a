"""Where words begin, by how a vocabulary spells its tokens: "##" in WordPiece, "Ġ" on bytes, "▁" in unigram."""

from dataclasses import dataclass

import numpy as np

from gossamer.text.byte_tokenizer import byte_letters
from gossamer.text.encoding import count_ids
from gossamer.text.tokenizer import Tokenizer

__all__ = ["WordMarks", "word_marks"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WordMarks:
    """What each id says about words, bool [ids].

    opens: it begins a word, white space before it included. closes: what follows it begins one. special: it is none of
    the text's. known: whether the vocabulary marks words at all. used: there is a token of this id.
    """

    opens: np.ndarray
    closes: np.ndarray
    special: np.ndarray
    used: np.ndarray
    known: bool


def word_marks(tokenizer: Tokenizer) -> WordMarks:
    """The marks of all ids. A space belongs to the word after it, other white space is a word of its own."""
    tokens = tokenizer.tokens(range(count_ids(tokenizer)))
    added = tokenizer._backend.get_added_tokens_decoder()
    special = {number for number, token in added.items() if token.special}
    known, opening, closing = _letters(tokenizer, tokens)
    prefix = tokenizer.subword_prefix
    opens = [not one.startswith(prefix) if prefix else one[:1] in opening for one in tokens]
    return WordMarks(
        opens=np.array(opens),
        closes=np.array([one[-1:] in closing for one in tokens]),
        special=np.array([number in special for number in range(len(tokens))]),
        used=np.array([bool(one) for one in tokens]),
        known=known,
    )


def _letters(tokenizer: Tokenizer, tokens: list[str]) -> tuple[bool, set[str], set[str]]:
    """Whether words are marked; the first characters that begin a word, and the last ones after which one begins."""
    if tokenizer.subword_prefix:
        return True, set(), set()
    letters = byte_letters()
    if set(letters) <= set(tokens):
        breaks = {letters[byte] for byte in b"\t\n\v\f\r"}
        return True, breaks | {letters[ord(" ")]}, breaks
    return any(one.startswith("▁") for one in tokens), {"▁", "\n"}, {"\n"}
