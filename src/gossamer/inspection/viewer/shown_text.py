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
    start, shown = len(text), ""
    # A token's text may depend on the one before it, as spaces do.
    lead = [] if before is None else list(before.ids[-1:])
    skipped = len(tokenizer.decode(lead)) if lead else 0
    for i in range(len(ids)):
        decoded = tokenizer.decode([*lead, *ids[: i + 1]])[skipped:]
        is_whole = not decoded.endswith("\ufffd")
        spans.append((start + len(shown), start + len(decoded) if is_whole else start + len(shown)))
        shown = decoded if is_whole else shown
    special = [tokenizer.decode([one]) == "" for one in ids]
    old = (0 if before is None else len(before)) + given
    return ShownText(
        text=text + shown,
        ids=(*(() if before is None else before.ids), *ids),
        tokens=(*(() if before is None else before.tokens), *tokenizer.tokens(ids)),
        spans=tuple(spans),
        special=(*(() if before is None else before.special), *special),
        given=old,
    )
