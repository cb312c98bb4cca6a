"""New tokens as text while they come: whole characters only, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["TextStream"]

CONTEXT = 8
"""Tokens of the prompt that are decoded along: how a token is written can depend on those before it."""

HELD = 3
"""Tokens that may be the beginning of a character: it has 4 bytes at most."""

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What bytes that make no character yet are decoded to."""


class TextStream:
    """The text of one continuation, piece by piece.

    What could be the beginning of a stop string, or of a character, is held back until it is clear what it is.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._ids = self._known(prompt[-CONTEXT:])
        self._start, self._told = 0, len(self._ids)
        self._held = ""
        self.text = ""
        self.stop: str | None = None
        """The stop string that ended the text, which is left out of it."""

    def push(self, token: int) -> str:
        """What is new in the text with one more token."""
        self._ids += self._known([token])
        piece = self._decode()
        if not piece or piece.endswith(INCOMPLETE):
            return self._push_all_but(HELD) if len(self._ids) - self._told > HELD else ""
        # Two decodings of a few tokens, whatever came before.
        self._start, self._told = self._told, len(self._ids)
        return self._release(piece)

    def finish(self) -> str:
        """What was held back to the last."""
        piece, self._told = self._decode(), len(self._ids)
        return self._release(piece, last=True) if self.stop is None else ""

    def _push_all_but(self, held: int) -> str:
        """What is new without the last tokens, if it is clear by now: no character spans the cut.

        Else bytes that are no text would be held back, and decoded again with every token, as long as they come.
        """
        cut = len(self._ids) - held
        before, head, tail, whole = (
            self._tokenizer.decode(self._ids[one])
            for one in (
                slice(self._start, self._told),
                slice(self._start, cut),
                slice(cut, None),
                slice(self._start, None),
            )
        )
        if head == before:
            # Tokens without text; what stands before them is the context of what follows.
            del self._ids[self._told : cut]
            return ""
        if head + tail != whole:
            return ""
        self._start, self._told = self._told, cut
        return self._release(head[len(before) :])

    def _known(self, ids: Sequence[int]) -> list[int]:
        """Those in the vocabulary: a model's table may have more rows."""
        return [one for one, token in zip(ids, self._tokenizer.tokens(ids), strict=True) if token]

    def _decode(self) -> str:
        before = self._tokenizer.decode(self._ids[self._start : self._told])
        return self._tokenizer.decode(self._ids[self._start :])[len(before) :]

    def _release(self, piece: str, last: bool = False) -> str:
        text = self._held + piece
        found = min(((at, one) for one in self._stops if (at := text.find(one)) >= 0), default=None)
        if found is not None:
            text, self.stop, self._held = text[: found[0]], found[1], ""
        else:
            held = 0 if last else max((_overlap(text, one) for one in self._stops), default=0)
            text, self._held = text[: len(text) - held], text[len(text) - held :]
        self.text += text
        return text


def _overlap(text: str, stop: str) -> int:
    """How much of a stop string the text ends with."""
    most = min(len(stop) - 1, len(text))
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)
