"""A text as a model reads it: ids, how the vocabulary writes them, and where in the text each stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.errors import InputError, plural
from gossamer.text import Tokenizer

__all__ = ["MOST_TOKENS", "ShownText", "read_text", "written_text"]

MOST_TOKENS = 65536


@dataclass(frozen=True, kw_only=True)
class ShownText:
    """spans: the characters of each token, none where start and end are equal. given: the first so many tokens were
    given, what follows was written by the model."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    special: tuple[bool, ...]
    given: int

    def __len__(self) -> int:
        return len(self.ids)


def read_text(tokenizer: Tokenizer, text: str) -> ShownText:
    """A text with its special tokens, whole. Raises InputError for one of more tokens than a page shows."""
    batch = tokenizer(text, truncation=False, return_offsets=True)
    ids = batch["input_ids"][0].tolist()
    if len(ids) > MOST_TOKENS:
        raise InputError(f"the text has {plural(len(ids), 'token')}; a page shows {MOST_TOKENS:,} at most: shorten it")
    return ShownText(
        text=text,
        ids=tuple(ids),
        tokens=tuple(tokenizer.tokens(ids)),
        spans=tuple((start, stop) for start, stop in batch["offsets"][0].tolist()),
        special=tuple(map(bool, batch["special_tokens_mask"][0].tolist())),
        given=len(ids),
    )


def written_text(tokenizer: Tokenizer, before: ShownText | None, ids: Sequence[int], *, given: int = 0) -> ShownText:
    """Tokens whose text is what decoding gives, behind a text or alone. given: so many of `ids` were not written.

    Where several tokens make one character, the last of them has it.
    """
    text, spans = ("", []) if before is None else (before.text, list(before.spans))
    # A token's text may depend on the one before it, as spaces do; those before the last whole character are let go.
    every = [*(() if before is None else before.ids[-1:]), *ids]
    first, known = 0, len(every) - len(ids)
    for i in range(known, len(every)):
        old, new = tokenizer.decode(every[first:known]), tokenizer.decode(every[first : i + 1])
        piece = "" if new.endswith("\ufffd") and i + 1 < len(every) else new[len(old) :]
        spans.append((len(text), len(text) + len(piece)))
        if piece:
            text, first, known = text + piece, known, i + 1
    special = [tokenizer.is_special(one) for one in ids]
    count = (0 if before is None else len(before)) + given
    return ShownText(
        text=text,
        ids=(*(() if before is None else before.ids), *ids),
        tokens=(*(() if before is None else before.tokens), *tokenizer.tokens(ids)),
        spans=tuple(spans),
        special=(*(() if before is None else before.special), *special),
        given=count,
    )
