"""Unigram: of all ways to cut a text the one whose pieces score most (Kudo 2018, arXiv 1804.10959, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from gossamer.text.trimming.vocabulary import TrimmableVocabulary, byte_tokens

__all__ = ["UnigramVocabulary"]


class UnigramVocabulary(TrimmableVocabulary):
    """UnigramVocabulary with scores, which stay as they are: what scored most does so among fewer.

    What is unknown scores by a margin less than the least of all pieces, so that one stays. A character that is no
    piece any more then scores less than it did by itself, and leads no better way past the pieces that have it.
    """

    kind = "Unigram"

    @property
    def pinned(self) -> set[str]:
        pieces = self.settings["vocab"]
        unknown, least = self.settings["unk_id"], min(pieces, key=lambda entry: entry[1])[0]
        held = byte_tokens() if self.settings.get("byte_fallback") else set()
        return {least} | (held & self.ids.keys()) | ({pieces[unknown][0]} if unknown is not None else set())

    @cached_property
    def characters(self) -> set[str]:
        return set() if self.settings.get("byte_fallback") else {piece for piece in self.ids if len(piece) == 1}

    def characters_of(self, tokens: Iterable[str]) -> set[str]:
        return {letter for token in tokens for letter in token} & self.characters

    def needed(self, token: str) -> Collection[str]:
        return ()

    def trimmed(self, tokens: Mapping[str, int]) -> dict[str, Any]:
        pieces, unknown = self.settings["vocab"], self.settings["unk_id"]
        kept = [[piece, pieces[self.ids[piece]][1]] for piece in tokens]
        return {**self.settings, "vocab": kept, "unk_id": None if unknown is None else tokens[pieces[unknown][0]]}
