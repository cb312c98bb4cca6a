"""Where the sentences of a text begin, for whoever has to cut it."""

from __future__ import annotations

import re

__all__ = ["sentence_starts"]

_FULL_WIDTH = "\u3002\uff01\uff1f\uff61"
_MARKS = f".!?…‽⁇؟।{_FULL_WIDTH}"
_CLOSING = "\"'”’»)]」』"
_CLOSED = 3
"""Quotes and brackets between a mark and the white space behind it, at most."""
_LOOKED_AT = 12
_BREAKS = re.compile(rf"[{_FULL_WIDTH}]+[{re.escape(_CLOSING)}]*\s*|\s+")
"""Marks of scripts that write no white space behind them; and all white space."""
_ITEM = re.compile(r"[-*•\d]")

_ABBREVIATED = re.compile(
    r"(?:\b(?:[A-Za-z]|Mr|Mrs|Ms|Messrs|Dr|Prof|Sr|Jr|St|Mt|Rev|Hon|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Pres|No|Nos|vs|cf|al|"
    r"etc|Fig|Figs|Eq|Vol|pp|Inc|Ltd|Co|Corp|Bros|approx|ca|viz|resp|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)"
    r"|\b[A-Za-z]\.[A-Za-z])\.$"
)
"""Initials, titles, and words that are cut short, with a full stop that ends nothing."""


def sentence_starts(text: str) -> list[int]:
    """The characters at which sentences begin, 0 first; white space belongs to the sentence before it.

    A sentence ends with . ! ? or their like and white space, at a blank line, and before an item of a list. A full stop
    behind an initial, a title or a usual abbreviation, and any before a small letter, ends none. That is for cutting
    texts where it hurts least, not for counting sentences.
    """
    starts = [0]
    for space in _BREAKS.finditer(text):
        if space.start() > 0 and space.end() < len(text) and _ends(text, space):
            starts.append(space.end())
    return starts


def _ends(text: str, space: re.Match[str]) -> bool:
    """Whether a sentence ends before white space, or with marks that need none."""
    if space[0][0] in _MARKS or space[0].count("\n") > 1:
        return True
    if "\n" in space[0] and _ITEM.match(text, space.end()):
        return True
    before = text[max(0, space.start() - _LOOKED_AT) : space.start()]
    said = before[:-_CLOSED] + before[-_CLOSED:].rstrip(_CLOSING)
    if not said or said[-1] not in _MARKS or text[space.end()].islower():
        return False
    return said != before or said.endswith("..") or _ABBREVIATED.search(said) is None
