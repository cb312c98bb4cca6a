"""Byte-pair encoding: neighbours are merged in the order of a list (Sennrich et al. 2016, arXiv 1508.07909)."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from gossamer.text.byte_tokenizer import byte_letters
from gossamer.text.trimming.vocabulary import TrimmableVocabulary, byte_tokens

__all__ = ["BytePairVocabulary"]


class BytePairVocabulary(TrimmableVocabulary):
    """Tokens that merges make: with each the two that were merged last into it stay, and so on down to its letters.

    Of the merges those stay whose tokens do, in their order. A text whose merges all stay is then cut as before: at
    each step the first merge that applies is the one that applied first among more.
    """

    kind = "BPE"

    def __init__(self, settings: Mapping[str, Any], ids: Mapping[str, int], *, of_bytes: bool) -> None:
        super().__init__(settings, ids)
        self._bytes = set(byte_letters()) if of_bytes else byte_tokens() if settings.get("byte_fallback") else set()
        self._merges = [_pair(merge) for merge in settings["merges"]]

    @property
    def pinned(self) -> set[str]:
        return (self._bytes | {str(self.settings.get("unk_token"))}) & self.ids.keys()

    @cached_property
    def characters(self) -> set[str]:
        return set() if self._bytes else {token for token in self.ids if len(token) == 1}

    def characters_of(self, tokens: Iterable[str]) -> set[str]:
        return {letter for token in tokens for letter in token} & self.characters

    def needed(self, token: str) -> Collection[str]:
        return self._last_merge(token)

    def trimmed(self, tokens: Mapping[str, int]) -> dict[str, Any]:
        merges = [list(pair) for pair in self._merges if {*pair, "".join(pair)} <= tokens.keys()]
        return {**self.settings, "vocab": dict(tokens), "merges": merges}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self._merges)}

    def _last_merge(self, token: str) -> tuple[str, ...]:
        """The two parts that a token is merged from where it is all of a word; none where merges don't make it.

        The merges inside of a token of any text are those of the token by itself, since none went beyond it.
        """
        parts = list(token)
        last: tuple[str, ...] = ()
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            at = min(range(len(pairs)), key=lambda i: self._ranks.get(pairs[i], len(self._merges)))
            if pairs[at] not in self._ranks:
                return ()
            last = pairs[at]
            parts[at : at + 2] = ["".join(last)]
        return last


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """A merge as files write it: two tokens, or both in one string with a space between them."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second
