"""WordPiece: the longest token that a word begins with, again and again (Wu et al. 2016, arXiv 1609.08144)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from gossamer.text.trimming.vocabulary import TrimmableVocabulary

__all__ = ["WordPieceVocabulary"]


class WordPieceVocabulary(TrimmableVocabulary):
    """Tokens of which none is needed for another: what was the longest is so among fewer.

    A word that could not be spelled is `[UNK]` as before, unless fewer tokens take another way through it, which needs
    a vocabulary that has a character inside of tokens and not by itself.
    """

    kind = "WordPiece"

    @property
    def pinned(self) -> set[str]:
        return {self.settings["unk_token"]} & self.ids.keys()

    @cached_property
    def characters(self) -> set[str]:
        return {token for token in self.ids if len(self._letters(token)) == 1}

    def characters_of(self, tokens: Iterable[str]) -> set[str]:
        letters = {letter for token in tokens for letter in self._letters(token)}
        return {form for letter in letters for form in (letter, self._prefix + letter)} & self.ids.keys()

    def needed(self, token: str) -> Collection[str]:
        return ()

    def trimmed(self, tokens: Mapping[str, int]) -> dict[str, Any]:
        return {**self.settings, "vocab": dict(tokens)}

    @property
    def _prefix(self) -> str:
        return str(self.settings["continuing_subword_prefix"])

    def _letters(self, token: str) -> str:
        return token.removeprefix(self._prefix)
