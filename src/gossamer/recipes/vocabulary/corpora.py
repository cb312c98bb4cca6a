"""Texts whose tokens are counted: from files or from memory, read once and a piece at a time."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gossamer.errors import InputError, plural, quote
from gossamer.text import Document, InputStream, Tokenizer, read_documents
from gossamer.text.documents import SPEECHES
from gossamer.text.encoding import BATCH, count_ids, cut, encode_documents

__all__ = ["CountedTexts", "Texts", "TextsReader", "count_tokens"]

Texts = str | Path | InputStream | Sequence[str] | Sequence[str | Path | InputStream]
"""A file, an open stream or `speeches`, or several; or texts, where all of several are strings."""

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
        for one in texts:
            if not isinstance(one, str | Path | InputStream):
                raise InputError(f"{name} holds {quote(one)}; every text must be a string, every file a pathlib.Path")
        strings = [one for one in texts if isinstance(one, str)]
        if len(strings) < len(texts):
            return self._read(list(texts))
        for one in strings:
            _refuse_file_name(name, one)
        return (Document(source=name, number=i, parts=[one]) for i, one in enumerate(strings, 1))

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
    documents: int
    text_bytes: int
    passages: list[str]

    @property
    def tokens(self) -> int:
        """All tokens, special ones around texts not counted."""
        return int(self.counts.sum())

    def describe(self) -> str:
        """A few words for a receipt."""
        return f"{plural(self.documents, 'document')}, {self.text_bytes:,} bytes, {plural(self.tokens, 'token')}"


def count_tokens(name: str, documents: Iterable[Document], *tokenizers: Tokenizer) -> list[CountedTexts]:
    """Count the tokens of documents by each tokenizer; each is read once. InputError where there are no tokens.

    In memory are about a million characters at a time with their tokens, whatever there is to read (a document that
    comes in one part, as a row or a string does, is there whole).
    """
    pieces = _Pieces(documents)
    counts = [np.zeros(count_ids(one), dtype=np.int64) for one in tokenizers]
    text_bytes = 0
    for block in pieces.blocks():
        for count, tokenizer in zip(counts, tokenizers, strict=True):
            encoded = list(encode_documents(block, tokenizer))
            count += np.bincount(np.concatenate([ids for ids, _, _ in encoded]), minlength=len(count))
        text_bytes += sum(size for _, size, _ in encoded)
    if not counts[0].any():
        raise InputError(f"{name}: there are no tokens in {plural(pieces.documents, 'document')}; give other texts")
    return [
        CountedTexts(counts=count, documents=pieces.documents, text_bytes=text_bytes, passages=pieces.passages)
        for count in counts
    ]


class _Pieces:
    """Documents in pieces that are tokenized alone; a sample of how pieces begin (Vitter 1985, algorithm R)."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._source = documents
        self.documents = 0
        self.passages: list[str] = []

    def blocks(self) -> Iterator[list[Document]]:
        """Pieces that are tokenized side by side."""
        block: list[Document] = []
        size = 0
        for piece, length in self._drawn():
            block.append(piece)
            size += length
            if size >= BATCH:
                yield block
                block, size = [], 0
        if block:
            yield block

    def _drawn(self) -> Iterator[tuple[Document, int]]:
        drawing, seen = random.Random(0), 0
        for document in self._source:
            self.documents += 1
            for part in cut(document.parts):
                place = seen if seen < _PASSAGES else drawing.randrange(seen + 1)
                if place < _PASSAGES:
                    self.passages[place : place + 1] = [part[:_PASSAGE]]
                seen += 1
                yield replace(document, parts=[part]), len(part)
