"""Where words begin, by how a vocabulary spells its tokens: "##" in WordPiece, "Ġ" on bytes, "▁" in unigram.

Where a script is written without spaces (Han, kana, Thai ...) each token is a word of its own.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from gossamer.text.byte_tokenizer import byte_letters
from gossamer.text.encoding import count_ids
from gossamer.text.tokenizer import Tokenizer

__all__ = ["WordMarks", "is_unspaced", "word_marks"]

# Thai and Lao; Tibetan; Myanmar; Khmer; radicals, CJK marks, kana, bopomofo; the rest of CJK up to before Hangul, whose
# words have spaces; compatibility forms; full and half widths; old kana; Han beyond the basic plane.
_UNSPACED = (
    *((0x0E00, 0x0F00), (0x0F00, 0x1000), (0x1000, 0x10A0), (0x1780, 0x1800), (0x2E80, 0x3130), (0x3190, 0xA000)),
    *((0xF900, 0xFB00), (0xFF00, 0xFFF0), (0x1B000, 0x1B170), (0x20000, 0x40000)),
)
_STARTS = [start for start, _ in _UNSPACED]
_SPACE_MARK = "▁"


@dataclass(frozen=True, kw_only=True, eq=False)
class WordMarks:
    """What each id says about words, bool [ids].

    opens: it begins a word, white space before it included. closes: what follows it begins one. unspaced: it begins
    with a character of a script without spaces, so that it begins a word unless a `space` is before it; space: it is a
    space that belongs to what follows. special: it is none of the text's. used: there is a token of this id. known:
    whether the vocabulary marks words at all.
    """

    opens: np.ndarray
    closes: np.ndarray
    unspaced: np.ndarray
    space: np.ndarray
    special: np.ndarray
    used: np.ndarray
    known: bool


def is_unspaced(character: str) -> bool:
    """Whether a character, "" for none, is of a script whose words have no spaces between them."""
    place = bisect_right(_STARTS, ord(character)) - 1 if character else -1
    return place >= 0 and ord(character) < _UNSPACED[place][1]


def word_marks(tokenizer: Tokenizer) -> WordMarks:
    """The marks of all ids. A space belongs to the word after it, other white space is a word of its own."""
    tokens = tokenizer.tokens(range(count_ids(tokenizer)))
    added = tokenizer._backend.get_added_tokens_decoder()
    special = {number for number, token in added.items() if token.special}
    known, opening, closing = _letters(tokenizer, tokens)
    prefix = tokenizer.subword_prefix
    opens = [not one.startswith(prefix) if prefix else one[:1] in opening for one in tokens]
    edges = _edges(tokens, prefix)
    return WordMarks(
        opens=np.array(opens),
        closes=np.array(
            [one[-1:] in closing or is_unspaced(last) for one, (_, last) in zip(tokens, edges, strict=True)]
        ),
        unspaced=np.array([is_unspaced(first) for first, _ in edges]),
        space=np.array([one in opening and one not in closing for one in tokens]),
        special=np.array([number in special for number in range(len(tokens))]),
        used=np.array([bool(one) for one in tokens]),
        known=known,
    )


def _edges(tokens: list[str], prefix: str | None) -> list[tuple[str, str]]:
    """The first and the last character that each token stands for; "" where it begins or ends within one."""
    letters = byte_letters()
    if prefix or not set(letters) <= set(tokens):
        texts = [text.removeprefix(prefix or "") for text in tokens]
        return [(text[:1], text[-1:]) for text in texts]
    values = {letter: byte for byte, letter in enumerate(letters)}
    return [
        _byte_edges(bytes(values[letter] for letter in token)) if set(token) <= values.keys() else ("", "")
        for token in tokens
    ]


def _byte_edges(data: bytes) -> tuple[str, str]:
    """Of bytes of UTF-8. A first character that is cut off counts as the lowest one that begins so."""
    if not data:
        return "", ""
    width = _width(data[0])
    first = data[:width]
    if 0 < len(first) < width:
        second = {0xE0: b"\xa0", 0xF0: b"\x90"}.get(first[0], b"\x80")
        first += (second if len(first) == 1 else b"") + b"\x80\x80"
    begun = next((i for i in range(len(data) - 1, -1, -1) if _width(data[i])), 0)
    last = data[begun:] if _width(data[begun]) == len(data) - begun else b""
    return first[:width].decode(errors="ignore"), last.decode(errors="ignore")


def _width(lead: int) -> int:
    """How many bytes a character has that begins with this one; 0 for one that begins none."""
    return (
        1 if lead < 0x80 else 0 if lead < 0xC2 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4 if lead < 0xF5 else 0
    )


def _letters(tokenizer: Tokenizer, tokens: list[str]) -> tuple[bool, set[str], set[str]]:
    """Whether words are marked; the first characters that begin a word, and the last ones after which one begins."""
    if tokenizer.subword_prefix:
        return True, set(), set()
    letters = byte_letters()
    if set(letters) <= set(tokens):
        breaks = {letters[byte] for byte in b"\t\n\v\f\r"}
        return True, breaks | {letters[ord(" ")]}, breaks
    return any(token.startswith(_SPACE_MARK) for token in tokens), {_SPACE_MARK, "\n"}, {"\n"}
