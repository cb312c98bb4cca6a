"""Which tokens make up a word, and the words' own characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from gossamer.text.tokenizer import Tokenizer

__all__ = ["continues_word", "trim"]

_APOSTROPHES = "'\u2019"
_INSIDE_WORDS = _APOSTROPHES + "-\u2010\u2011.\u00b7&_@"
"""One of these between two letters or digits holds a word together."""
_INSIDE_NUMBERS = ".,:\u066b\u066c"
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals of Chinese characters
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),  # Chinese characters
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x3FFFF),
)
_JOINER = "\u200d"
_EXTENDING = ("Mn", "Mc", "Me", "Cf")


def continues_word(
    tokenizer: Tokenizer, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> list[bool]:
    """For each token, whether it goes on with the word of the one before it.

    Where the vocabulary marks continuations ("##" in WordPiece), the mark tells, as in `transformers`' token
    classification, but not of punctuation. Elsewhere the characters do, where tokens part them: a word ends at white
    space and at punctuation and symbols, each of which is a word of its own, but for a single mark that holds a word or
    a number together ("O'Brien", "Jean-Luc", "U.S", "1,234.5"); of a script without spaces every token is a word. So is
    an unknown token.
    """
    prefix, unknown = tokenizer.subword_prefix, tokenizer.unk_id
    if prefix:
        return [
            token.startswith(prefix) and token != prefix and not _marks_part(text, start, _is_punctuation)
            for token, (start, _) in zip(tokenizer.tokens(ids), offsets, strict=True)
        ]
    ends = [0, *(end for _, end in offsets[:-1])]
    return [
        # A piece of a character that began before belongs to it.
        start < before or (start > 0 and token != unknown and not _is_border(text, start))
        for token, before, (start, _) in zip(ids, ends, offsets, strict=True)
    ]


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The same characters without the white space that some tokenizers count to a token; as it is where that is all."""
    inner = text[start:end]
    if not inner.strip():
        return start, end
    return end - len(inner.lstrip()), start + len(inner.rstrip())


def _is_border(text: str, place: int) -> bool:
    """Whether a word ends before the character at this place, which is not the first."""
    before, after = text[place - 1], text[place : place + 1]
    if before.isspace() or after.isspace():
        return True
    if not after or _extends(before, after):
        return False
    return _marks_part(text, place, _is_mark) or _has_no_spaces(before) or _has_no_spaces(after)


def _marks_part(text: str, place: int, is_mark: Callable[[str], bool]) -> bool:
    """Whether marks part the characters before and at this place, rather than hold them together."""
    if not 0 < place < len(text) or not (is_mark(text[place - 1]) or is_mark(text[place])):
        return False
    return not (_holds_together(text, place) or _holds_together(text, place - 1))


def _extends(before: str, after: str) -> bool:
    """Whether a character belongs to the one before it: accents, and what makes one picture of several emoji."""
    flags = _is_flag_letter(before) and _is_flag_letter(after)
    return before == _JOINER or unicodedata.category(after) in _EXTENDING or _is_skin(after) or flags


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] in "PS"


def _is_punctuation(char: str) -> bool:
    """As BERT has it: symbols are punctuation in ASCII alone."""
    return unicodedata.category(char)[0] == "P" or (char.isascii() and _is_mark(char))


def _holds_together(text: str, place: int) -> bool:
    """Whether the character at this place is a mark inside a word or a number, as in "don't" and "12:30"."""
    mark, before, after = text[place : place + 1], text[max(0, place - 1) : place], text[place + 1 : place + 2]
    if before.isdigit() and after.isdigit() and mark in _INSIDE_NUMBERS:
        return True
    if not (mark in _INSIDE_WORDS and _is_inside(before) and _is_inside(after)):
        return False
    # "Lisbon's" and "l'Italie" are two words each, as "O'Brien" and "don't" are not.
    possessive = after in "sS" and not text[place + 2 : place + 3].isalnum()
    elision = before.islower() and after.isupper()
    return mark not in _APOSTROPHES or not (possessive or elision)


def _is_inside(char: str) -> bool:
    """Whether it can stand beside a mark inside a word: a letter with or without accents, or a digit."""
    return char != "" and (char.isalnum() or unicodedata.category(char)[0] == "M") and not _has_no_spaces(char)


def _has_no_spaces(char: str) -> bool:
    """Whether it is of a script that is written without spaces between words."""
    return any(first <= ord(char) <= last for first, last in _WITHOUT_SPACES)


def _is_flag_letter(char: str) -> bool:
    return 0x1F1E6 <= ord(char) <= 0x1F1FF


def _is_skin(char: str) -> bool:
    return 0x1F3FB <= ord(char) <= 0x1F3FF
