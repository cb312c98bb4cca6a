"""The long documents that ship with the package: 233 State of the Union addresses (see data/README.md)."""

import functools
import json
import lzma
import re
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from gossamer.errors import InputError

__all__ = ["Speech", "passages", "speeches"]

_COUNT = 233


@dataclass(frozen=True, kw_only=True)
class Speech:
    """One address: the year it was given, by whom, of which party, and its whole text."""

    year: int
    speaker: str
    party: str
    text: str


@functools.cache
def speeches() -> tuple[Speech, ...]:
    """All 233 addresses in the file's order, read once; InputError if the installed file is damaged."""
    resource = files("gossamer.text") / "data" / "speeches.jsonl.xz"
    try:
        lines = lzma.decompress(resource.read_bytes()).decode("utf-8").strip().split("\n")
        listed = tuple(Speech(**json.loads(line)) for line in lines)
    except (OSError, EOFError, lzma.LZMAError, ValueError, TypeError) as error:
        raise InputError(f"the sample {resource} cannot be read ({error}); install gossamer again") from error
    if len(listed) != _COUNT:
        raise InputError(f"the sample {resource} has {len(listed)} speeches, not {_COUNT}; install gossamer again")
    return listed


def passages(text: str, words: int, count: int, rng: np.random.Generator) -> list[str]:
    """`count` random passages of `words` contiguous words each, cut from `text` character for character.

    Words are what white space separates; passages start at different words and may overlap. Seed `rng` to repeat a
    draw. Raises InputError where `text` has fewer than words + count - 1 words.
    """
    if words < 1 or count < 1:
        raise InputError(f"words is {words} and count is {count}; both must be 1 or more")
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    starts = len(spans) - words + 1
    if starts < count:
        raise InputError(
            f"a text of {len(spans)} words has {max(0, starts)} passages of {words} words, not {count}; ask for fewer"
        )
    chosen = rng.choice(starts, size=count, replace=False)
    return [text[spans[start][0] : spans[start + words - 1][1]] for start in chosen.tolist()]
