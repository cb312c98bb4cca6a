"""Cutting a text that is longer than a model reads where it hurts least: between sentences, else between words."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.text.sentences import sentence_starts

__all__ = ["TextPart", "cut_text"]


@dataclass(frozen=True)
class TextPart:
    """Characters `start` to `end` of a text; those from `new` on are in no part before."""

    start: int
    new: int
    end: int

    def shifted(self, by: int) -> TextPart:
        """The part where the text stands behind so many characters."""
        return TextPart(self.start + by, self.new + by, self.end + by)


def cut_text(text: str, offsets: Sequence[tuple[int, int]], most: int, stride: int = 0) -> list[TextPart]:
    """Parts of at most `most` tokens each, about equally long, that share whole sentences of at most `stride` tokens.

    offsets: from which character to which each token of the text stands. A part ends where a sentence does; within a
    sentence of more tokens than a part holds, between words; and within such a word anywhere.
    """
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    sentences = sorted({bisect_right(ends, at) for at in sentence_starts(text)} - {0, len(ends)})
    words = [i for i in range(1, len(starts)) if text[starts[i] - 1].isspace() or text[starts[i]].isspace()]
    parts, first, new = [], 0, 0
    while len(starts) - first > most:
        left = len(starts) - first
        wanted = first + -(-left // -(-left // most))  # equal shares of what is left
        stop = _border(sentences, wanted, new, first + most) or _border(words, wanted, new, first + most)
        stop = first + most if stop is None else stop
        parts.append(TextPart(*(_begin(text, starts, place) for place in (first, new, stop))))
        first, new = _first_shared(sentences, first, stop, stride), stop
    parts.append(TextPart(_begin(text, starts, first), _begin(text, starts, new), len(text)))
    return parts


def _border(borders: Sequence[int], wanted: int, after: int, most: int) -> int | None:
    """The border nearest to the wanted one, behind `after` and not behind `most`; None where there is none."""
    low, high = bisect_right(borders, after), bisect_right(borders, most)
    return min(borders[low:high], key=lambda place: abs(place - wanted), default=None)


def _first_shared(sentences: Sequence[int], first: int, stop: int, stride: int) -> int:
    """The first sentence that the next part shares with the one that ends at `stop`; `stop` where it shares none."""
    low, high = bisect_left(sentences, max(stop - stride, first + 1)), bisect_right(sentences, stop)
    return min(sentences[low:high], default=stop)


def _begin(text: str, starts: Sequence[int], token: int) -> int:
    """The character at which a token begins, behind the white space that it may hold."""
    at = starts[token] if token else 0
    while token and at < len(text) and text[at].isspace():
        at += 1
    return at
