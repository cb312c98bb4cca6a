"""`--heads LAYER:NUMBERS` and `--layers NUMBERS`: what is named of a model, counted from 0."""

from __future__ import annotations

import re
from collections.abc import Iterable

from typer import BadParameter

from gossamer.errors import quote

__all__ = ["read_by_layer", "read_numbers"]

_ONE = r"\d{1,7}(?:-\d{1,7})?"  # no model has more of anything
_NUMBERS = re.compile(rf"{_ONE}(?:,{_ONE})*", re.ASCII)


def read_by_layer(option: str, texts: Iterable[str] | None) -> dict[int, list[int]] | None:
    """Numbers by the number of their layer, from texts such as "0:1,2" and "1:5-9"; BadParameter for another form."""
    if texts is None:
        return None
    named: dict[int, list[int]] = {}
    for text in texts:
        layer, _, numbers = text.partition(":")
        if not re.fullmatch(r"\d{1,7}", layer, re.ASCII) or not (found := _numbers(numbers)):
            raise BadParameter(
                f"{quote(text)} is not of the form LAYER:NUMBERS, such as 0:1,2 or 1:5-9", param_hint=f"'{option}'"
            )
        named.setdefault(int(layer), []).extend(found)
    return named


def read_numbers(option: str, text: str | None) -> list[int] | None:
    """Numbers from a text such as "4,5" or "0-2"; BadParameter for another form."""
    if text is None:
        return None
    if not (found := _numbers(text)):
        raise BadParameter(f"{quote(text)} is not of the form NUMBERS, such as 4,5 or 0-2", param_hint=f"'{option}'")
    return found


def _numbers(text: str) -> list[int]:
    """All that are named; none where a text has another form, or a range that falls."""
    if not _NUMBERS.fullmatch(text):
        return []
    ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
    falls = any(one[0] > one[-1] for one in ends)
    return [] if falls else [number for one in ends for number in range(one[0], one[-1] + 1)]
