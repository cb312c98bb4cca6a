"""Remarks on several texts, a line each, that name their text by its number: "text 3 is ..."."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["is_numbered", "notes_of", "renumbered"]

_NUMBER = re.compile(
    r"^((?:left out: |a continuation of )?(?:text|text_pair|question|context|prompt|target)|both texts of pair) (\d+)\b"
)


def is_numbered(note: str) -> bool:
    """Whether it is on one text."""
    return _NUMBER.search(note) is not None


def notes_of(notes: Sequence[str], number: int) -> list[str]:
    """Those on the text of this number, as a single text's, which is number 0; and those on no text."""
    found = [_NUMBER.search(note) for note in notes]
    return [
        renumbered(note, {number: 0})
        for note, named in zip(notes, found, strict=True)
        if named is None or int(named[2]) == number
    ]


def renumbered(note: str, numbers: dict[int, int]) -> str:
    """With another number in the place of the text's."""
    return _NUMBER.sub(lambda named: f"{named[1]} {numbers.get(int(named[2]), named[2])}", note)
