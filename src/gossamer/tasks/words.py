"""Which tokens make up a word, and the words' own characters."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.text import Tokenizer

__all__ = ["continues_word", "trim"]


def continues_word(
    tokenizer: Tokenizer, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> list[bool]:
    """For each token, whether it goes on with the word of the one before it.

    Where the vocabulary marks continuations ("##" in WordPiece), the mark tells; elsewhere a word ends at white space
    alone, and takes its punctuation along, as in `transformers`' token classification. An unknown token is a word.
    """
    prefix, unknown = tokenizer.subword_prefix, tokenizer.unk_id
    if prefix:
        return [token.startswith(prefix) and token != prefix for token in tokenizer.tokens(ids)]
    return [
        start > 0 and one != unknown and not any(char.isspace() for char in text[start - 1 : start + 1])
        for one, (start, _) in zip(ids, offsets, strict=True)
    ]


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The same characters without the white space that some tokenizers count to a token; as it is where that is all."""
    inner = text[start:end]
    if not inner.strip():
        return start, end
    return end - len(inner.lstrip()), start + len(inner.rstrip())
