"""Texts whose tokens are counted: from files or from memory, read once and a piece at a time."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gossamer.errors import InputError, quote
from gossamer.text import Document, InputStream, Tokenizer, read_documents
from gossamer.text.documents import SPEECHES
from gossamer.text.encoding import count_ids, encode_documents

__all__ = ["CountedTexts", "Texts", "TextsReader", "count_tokens"]

Texts = str | Path | InputStream | Sequence[str] | Sequence[str | Path | InputStream]
"""A file, an open stream or `speeches`, or several; or texts, where all of several are strings."""

_AT_ONCE = 2**20
"""Tokens that are counted in one go."""
_PASSAGES, _PASSAGE = 32, 2000
"""How many beginnings of pieces of the texts are kept to be looked at, and how long, in characters."""


@dataclass(frozen=True, kw_only=True)
class TextsReader:
    """How texts are read: the `field` that holds one in rows, the `format` of files unless their endings say it.

    told: is called with the number of bytes of files whenever some were read. remark: is told what the reader should
    know of a file (`gossamer.text.read_documents`).
    """

    field: str = "text"
    format: str | None = None
    told: Callable[[int], None] = lambda count: None
    remark: Callable[[str], None] | None = None

    def documents(self, name: str, texts: Texts) -> Iterator[Document]:
        """The documents of the argument `name`. Raises InputError for what is no text or names no file."""
        if isinstance(texts, str | Path | InputStream):
            return self._read([texts])
        if not isinstance(texts, Sequence) or not texts:
            raise InputError(f"{name} is {quote(texts)}; give a file, several, or a list of texts")
        wrong = next((one for one in texts if not isinstance(one, str | Path | InputStream)), None)
        if wrong is not None:
            raise InputError(f"{name} holds {quote(wrong)}; every text must be a string, every file a pathlib.Path")
        if not all(isinstance(one, str) for one in texts):
            return self._read(list(texts))
        for one in texts:
            _refuse_file_name(name, one)
        return (Document(source=name, number=i, parts=[one]) for i, one in enumerate(texts, 1))

    def _read(self, inputs: list[str | Path | InputStream]) -> Iterator[Document]:
        return read_documents(inputs, field=self.field, format=self.format, told=self.told, remark=self.remark)


def _refuse_file_name(name: str, text: str) -> None:
    """A list of strings is a list of texts: one that names a file was hardly meant as one."""
    try:
        is_file = text == SPEECHES or (len(text) < 1000 and os.path.isfile(text))
    except ValueError:  # a NUL is in it
        return
    if is_file:
        raise InputError(
            f"{name} holds {quote(text)}, which names a file, among texts; give pathlib.Path({quote(text)}) to read it"
        )


@dataclass(kw_only=True)
class CountedTexts:
    """How often texts have each token, `counts` int64 [ids], and a few passages of them, drawn evenly, seed 0."""

    counts: np.ndarray
    documents: int = 0
    text_bytes: int = 0
    passages: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """All tokens, special ones around texts not counted."""
        return int(self.counts.sum())

    def describe(self) -> str:
        """A few words for a receipt."""
        return f"{self.documents:,} documents, {self.text_bytes:,} bytes, {self.tokens:,} tokens"


def count_tokens(name: str, documents: Iterable[Document], tokenizer: Tokenizer) -> CountedTexts:
    """Count the tokens of documents, each of which is read once; InputError where there are none.

    In memory are about a million characters and as many tokens at a time, whatever there is to read (a document that
    comes in one part, as a row or a string does, is there whole).
    """
    size = count_ids(tokenizer)
    counted = CountedTexts(counts=np.zeros(size, dtype=np.int64))
    waiting: list[np.ndarray] = []
    held = 0
    for ids, text_bytes, document in encode_documents(_drawn(documents, counted.passages), tokenizer):
        waiting.append(ids)
        held += len(ids)
        counted.text_bytes += text_bytes
        counted.documents += document is not None
        if held >= _AT_ONCE:
            counted.counts += np.bincount(np.concatenate(waiting), minlength=size)
            waiting, held = [], 0
    if held:
        counted.counts += np.bincount(np.concatenate(waiting), minlength=size)
    if not counted.tokens:
        raise InputError(f"{name}: there are no tokens in {counted.documents:,} documents; give other texts")
    return counted


def _drawn(documents: Iterable[Document], passages: list[str]) -> Iterator[Document]:
    """The documents; meanwhile `passages` becomes a sample of how their parts begin (Vitter 1985, algorithm R)."""
    drawing, seen = random.Random(0), 0

    def watched(parts: Iterable[str]) -> Iterator[str]:
        nonlocal seen
        for part in parts:
            if part.strip():
                place = seen if seen < _PASSAGES else drawing.randrange(seen + 1)
                if place < _PASSAGES:
                    passages[place : place + 1] = [part[:_PASSAGE]]
                seen += 1
            yield part

    for document in documents:
        yield replace(document, parts=watched(document.parts))
