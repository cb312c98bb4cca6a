"""What every kind of vocabulary answers when tokens are to be left out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from typing import Any

__all__ = ["TrimmableVocabulary", "byte_tokens"]


class TrimmableVocabulary(ABC):
    """The "model" of a tokenizer.json, `settings`, and the id of each of its tokens, `ids`.

    Whoever keeps `pinned` and, with every token, what is `needed` for it gets a vocabulary that cuts each text of kept
    tokens as the whole one did.
    """

    kind: str

    def __init__(self, settings: Mapping[str, Any], ids: Mapping[str, int]) -> None:
        self.settings, self.ids = settings, ids

    @property
    @abstractmethod
    def pinned(self) -> set[str]:
        """Tokens that stay, whatever texts there are."""

    @property
    @abstractmethod
    def characters(self) -> set[str]:
        """Tokens of one character each, with which every text that can be spelled is spelled; none where bytes do."""

    @abstractmethod
    def characters_of(self, tokens: Iterable[str]) -> set[str]:
        """Those of `characters` that the given tokens are made of."""

    @abstractmethod
    def needed(self, token: str) -> Collection[str]:
        """The tokens without which a text would no longer be cut into this one; theirs are not among them."""

    @abstractmethod
    def trimmed(self, tokens: Mapping[str, int]) -> dict[str, Any]:
        """The settings of the vocabulary of these tokens, in the order of their new ids."""


def byte_tokens() -> set[str]:
    """How vocabularies with a fallback on bytes spell them (sentencepiece's)."""
    return {f"<0x{byte:02X}>" for byte in range(256)}
