"""What the user did wrong, in one line: the value, what is allowed, what to do."""

import os
import re
import sys
import warnings

__all__ = ["GossamerError", "InputError", "ItemError", "Remark", "clean_line", "plural", "quote", "remark"]

LONGEST_LINE = 2000
"""Characters of one line that is shown to a person; of a longer one the beginning and the end are kept."""

_TAIL = 600
_PACKAGE = os.path.dirname(__file__) + os.sep


class GossamerError(Exception):
    """Base of every error Gossamer raises on purpose; the command prints its one line and exits with 2.

    The message is cleaned: names and values in it may come from files that somebody else wrote.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(clean_line(str(message)))


class InputError(GossamerError, ValueError):
    """A value from outside (argument, config, file, text) that cannot be used; the message quotes it and the remedy."""


class ItemError(InputError):
    """An InputError about number `item` of a list of things, of which the others may be right."""

    def __init__(self, item: int, message: str) -> None:
        super().__init__(message)
        self.item = item


class Remark(UserWarning):
    """What a user should know although nothing failed: something left out, cut or not followed.

    Python shows each once for every place that it comes from; `warnings.simplefilter("ignore", gossamer.errors.Remark)`
    silences them, "error" makes them errors.
    """


def remark(message: str) -> None:
    """Warn with a `Remark` of one clean line, at the line of the user's that called into this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(Remark(clean_line(message)), stacklevel=level)


def clean_line(text: str, longest: int = LONGEST_LINE) -> str:
    """A text as one line of bounded length that leaves a terminal as it was: no control, escape or bidirectional marks.

    What is cut out of a long one is its middle: a message begins with the place and ends with the remedy.
    """
    if len(text) > 4 * longest:  # before it is looked at: it may be a file's whole content
        text = f"{text[: 2 * longest]}{text[-2 * longest :]}"
    line = re.sub(r"\s+", " ", text).strip()
    line = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line)
    if len(line) <= longest:
        return line
    tail = min(_TAIL, longest // 3)
    return f"{line[: longest - tail - 5]} ... {line[-tail:]}"


def plural(count: int, noun: str, several: str = "") -> str:
    """A number with what it counts, for people: "1 token", "2,048 tokens"; `several`: where an s does not do."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def quote(value: object) -> str:
    """A value as one short line, however large it is."""
    try:
        text = clean_line(repr(value))
    except (ValueError, RecursionError):  # more digits than Python prints, or too deep
        return f"of type {type(value).__name__}, too large to show"
    return text if len(text) <= 80 else f"{text[:77]}..."
