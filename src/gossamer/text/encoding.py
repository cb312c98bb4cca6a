"""Documents of any length to token ids, in batches, with a memory that does not grow with them."""

import hashlib
import json
from collections.abc import Iterable, Iterator

import numpy as np
import tokenizers

from gossamer.errors import InputError
from gossamer.text.byte_tokenizer import is_byte_tokenizer
from gossamer.text.documents import Document
from gossamer.text.tokenizer import _BACKEND_STATE, Tokenizer
from gossamer.text.tokenizer_files import reading_errors

__all__ = ["EncodedPart", "count_ids", "cut", "encode_documents", "encode_text", "end_of_documents", "fingerprint"]

EncodedPart = tuple[list[int], list[tuple[int, int]], int]
"""Ids, their characters in the whole text, and where in the text the part ends."""

PART = 2**16
"""Characters that are encoded in one go: a longer text is cut between two words."""
BATCH = 2**20
"""Characters that are encoded side by side."""
_LONGEST_WORD = 2**12
"""How far back a place between two words is looked for."""
_SHARED = 2**9
"""Characters on either side of a cut that are encoded with both parts, where offsets are wanted."""
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
_PROBE = "The  state of the Union, (naïve) don't\n\t日本 👍🏽 #1 ## x²"


def encode_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, control_tokens: bool = True
) -> Iterator[tuple[np.ndarray, int, Document | None]]:
    """Each part of each document: its ids, its UTF-8 bytes, and the document where the part is its last.

    control_tokens: False reads the names of special tokens in a text as letters.
    """
    backend = tokenizer.backend(control_tokens)
    as_bytes = is_byte_tokenizer(tokenizer)
    waiting: list[tuple[bytes, Document | None]] = []
    size = 0
    for text, ends in _parts(documents):
        waiting.append((text, ends))
        size += len(text) + 1
        if size >= BATCH:
            yield from _encode(waiting, backend, as_bytes, tokenizer.may_panic)
            waiting, size = [], 0
    yield from _encode(waiting, backend, as_bytes, tokenizer.may_panic)


def encode_text(parts: Iterable[str], tokenizer: Tokenizer) -> Iterator[EncodedPart]:
    """The ids and offsets of a text that comes in parts, of any length, in parts: together those of `encode_plain`.

    Each part is encoded with a little of its neighbours, so that neither what a tokenizer does at a text's start nor a
    cut inside of a word is seen. A token that reaches over a cut belongs to the part that it begins in.
    """
    start, before = 0, ""
    for text, following in _with_next(cut(parts)):
        ids, offsets = tokenizer.encode_plain(before + text + following[:_SHARED])
        shift, end = start - len(before), start + len(text)
        if shift:
            offsets = [(first + shift, last + shift) for first, last in offsets]
        first = next((i for i, (begin, _) in enumerate(offsets) if begin >= start), len(ids))
        stop = len(ids)
        while stop > first and following and offsets[stop - 1][0] >= end:
            stop -= 1
        yield ids[first:stop], offsets[first:stop], end
        start, before = end, text[-_SHARED:]
    if not start:
        yield [], [], 0


def _with_next(parts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each part and the one behind it, "" behind the last."""
    waiting: str | None = None
    for part in parts:
        if waiting is not None:
            yield waiting, part
        waiting = part
    if waiting is not None:
        yield waiting, ""


def _encode(
    waiting: list[tuple[bytes, Document | None]], backend: tokenizers.Tokenizer, as_bytes: bool, may_panic: bool
) -> Iterator[tuple[np.ndarray, int, Document | None]]:
    if as_bytes:
        for text, ends in waiting:
            yield np.frombuffer(text, dtype=np.uint8), len(text), ends
        return
    with _BACKEND_STATE, reading_errors("the tokenizer cannot read these texts", may_panic=may_panic):
        backend.no_truncation()
        encodings = backend.encode_batch_fast([text.decode() for text, _ in waiting], add_special_tokens=False)
    for encoding, (text, ends) in zip(encodings, waiting, strict=True):
        yield np.array(encoding.ids, dtype=np.uint32), len(text), ends


def _parts(documents: Iterable[Document]) -> Iterator[tuple[bytes, Document | None]]:
    for document in documents:
        last = ""
        for part in cut(document.parts):
            if last:
                yield _utf8(last, document), None
            last = part
        yield _utf8(last, document), document


def _utf8(text: str, document: Document) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        bad = ascii(text[problem.start])
        raise InputError(f"{document.name}: holds half a surrogate pair ({bad}); write the text as UTF-8") from None


def cut(parts: Iterable[str], size: int = PART) -> Iterator[str]:
    """The text of all parts, in parts of about `size` characters that are cut before a single space after a word.

    No tokenizer of the families here joins anything across such a place, so the ids are those of the whole text. A
    text without any is cut where another white space is, or anywhere.
    """
    rest = ""
    for part in parts:
        rest += part
        start = 0
        while len(rest) - start > size + _LONGEST_WORD:
            end = _place(rest, start, start + size)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    if rest:
        yield rest


def _place(text: str, start: int, end: int) -> int:
    """Where to cut, at most _LONGEST_WORD before `end`: a good place, else another white space, else `end`."""
    least = max(start + 1, end - _LONGEST_WORD)
    at = text.rfind(" ", least, end)
    while at > 0:
        if not text[at - 1].isspace() and not text[at + 1].isspace():
            return at
        at = text.rfind(" ", least, at)
    return next((i for i in range(end, least, -1) if text[i].isspace()), end)


def fingerprint(tokenizer: Tokenizer) -> str:
    """SHA-256 of what a tokenizer does, whichever file or version it came from: its vocabulary, and a text's ids."""
    if is_byte_tokenizer(tokenizer):  # with or without a mask
        return hashlib.sha256(b"bytes").hexdigest()
    known = [tokenizer.tokens(range(count_ids(tokenizer))), tokenizer.encode_plain(_PROBE)[0]]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def count_ids(tokenizer: Tokenizer) -> int:
    """All ids are below this; more than there are tokens where the vocabulary has gaps."""
    return max(tokenizer._backend.get_vocab(with_added_tokens=True).values()) + 1


def end_of_documents(tokenizer: Tokenizer) -> int | None:
    """The token that ends a document: the config's eos_token, one of a usual name, else what closes a text; or None."""
    named = tokenizer._settings.get("eos_token")
    named = named.get("content") if isinstance(named, dict) else named
    for name in (named, *_ENDS):
        number = tokenizer.token_id(name) if isinstance(name, str) else None
        if number is not None:
            return number
    return tokenizer.sep_id
