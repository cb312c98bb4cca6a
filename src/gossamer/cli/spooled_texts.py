"""Where texts are from and the fields of their rows, of any number of them, on the disk."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterator, Mapping

from gossamer.cli.output import json_line
from gossamer.cli.texts import Text

__all__ = ["SpooledTexts"]


class SpooledTexts(Mapping[int, Text]):
    """Texts by their number, without the text itself: a mebibyte in memory, the rest in a temporary file."""

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(2**20, "w+b")  # noqa: SIM115
        self._begins = array("Q")
        self._end = 0

    def add(self, text: Text) -> None:
        """One more."""
        self._begins.append(self._end)
        self._spool.seek(self._end)
        self._end += self._spool.write(json_line([text.source, dict(text.fields)]).encode() + b"\n")

    def close(self) -> None:
        """Drop them all."""
        self._spool.close()

    def __getitem__(self, number: int) -> Text:
        if not 0 <= number < len(self._begins):
            raise KeyError(number)
        self._spool.seek(self._begins[number])
        source, fields = json.loads(self._spool.readline())
        return Text(source, "", fields=fields)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._begins)))

    def __len__(self) -> int:
        return len(self._begins)
